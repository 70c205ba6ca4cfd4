-- What a server's admins decided. NULL: no limit of the server's own; the operator's bounds hold everywhere.
CREATE TABLE server_limits (
    guild_id INTEGER PRIMARY KEY,
    max_pending_per_user INTEGER CHECK (max_pending_per_user >= 1),
    user_seconds_per_day REAL CHECK (user_seconds_per_day > 0),
    server_seconds_per_day REAL CHECK (server_seconds_per_day > 0),
    max_duration_s REAL CHECK (max_duration_s > 0),
    engines TEXT CHECK (json_type(engines) = 'array'),
    max_quality TEXT CHECK (max_quality IN ('draft', 'standard')),
    max_wait_s REAL CHECK (max_wait_s > 0),
    paused_at INTEGER,
    paused_by INTEGER,
    pause_reason TEXT,
    CHECK ((paused_at IS NULL) = (paused_by IS NULL)),
    CHECK (pause_reason IS NULL OR paused_at IS NOT NULL)
) STRICT;

CREATE TABLE blocked_users (
    guild_id INTEGER NOT NULL,
    user_id INTEGER NOT NULL,
    blocked_by INTEGER NOT NULL,
    blocked_at INTEGER NOT NULL,
    reason TEXT,
    PRIMARY KEY (guild_id, user_id)
) STRICT, WITHOUT ROWID;

-- Only ever added to.
CREATE TABLE moderator_acts (
    id INTEGER PRIMARY KEY,
    guild_id INTEGER NOT NULL,
    moderator_id INTEGER NOT NULL,
    act TEXT NOT NULL,
    target TEXT,
    at INTEGER NOT NULL,
    details TEXT
) STRICT;

CREATE INDEX moderator_acts_of_guild ON moderator_acts (guild_id);

CREATE TABLE user_settings (
    user_id INTEGER PRIMARY KEY,
    ping_when_done INTEGER NOT NULL CHECK (ping_when_done IN (0, 1))
) STRICT;

-- The sound a person or a server asked for in a day, as a walk over an index that holds all it takes. What failed, and
-- what was cancelled before it was started, does not count; the queries say the same words.
CREATE INDEX jobs_counted_of_user ON jobs (guild_id, user_id, created_at, duration_s, status, started_at)
WHERE status <> 'failed' AND (status <> 'cancelled' OR started_at IS NOT NULL);
CREATE INDEX jobs_counted_of_guild ON jobs (guild_id, created_at, duration_s, status, started_at)
WHERE status <> 'failed' AND (status <> 'cancelled' OR started_at IS NOT NULL);

-- For what people used lately.
CREATE INDEX jobs_done ON jobs (finished_at) WHERE status = 'done';
