-- Instants are whole milliseconds since the epoch, UTC. Discord ids are 63-bit integers.

CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- A preset is never removed, only marked, because jobs refer to it. Without its folded name the name is free again.
CREATE TABLE presets (
    id INTEGER PRIMARY KEY,
    owner_id INTEGER NOT NULL,
    guild_id INTEGER,
    name TEXT NOT NULL,
    folded_name TEXT,
    version INTEGER NOT NULL CHECK (version >= 1),
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    deleted_at INTEGER,
    CHECK ((folded_name IS NULL) = (deleted_at IS NOT NULL))
) STRICT;

-- Whole indexes: SQLite cannot use partial ones on the two sides of an OR.
CREATE UNIQUE INDEX presets_of_owner ON presets (owner_id, folded_name);
CREATE INDEX presets_of_guild ON presets (guild_id, folded_name);

CREATE TABLE preset_versions (
    preset_id INTEGER NOT NULL REFERENCES presets (id),
    version INTEGER NOT NULL,
    request TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (preset_id, version)
) STRICT, WITHOUT ROWID;

-- What people can still find and use, each in its newest version.
CREATE VIEW current_presets AS
SELECT id, owner_id, guild_id, name, folded_name, presets.version, request, presets.created_at, updated_at
FROM presets JOIN preset_versions ON preset_id = id AND preset_versions.version = presets.version
WHERE deleted_at IS NULL;

CREATE TABLE jobs (
    id TEXT PRIMARY KEY,
    recipe TEXT NOT NULL,
    request TEXT NOT NULL,
    -- The recipe's, beside it so that the sum of all sound is a walk over an index.
    duration_s REAL NOT NULL,
    file_format TEXT NOT NULL,
    preset_id INTEGER,
    preset_version INTEGER,
    parent_job_id TEXT REFERENCES jobs (id),
    user_id INTEGER NOT NULL,
    guild_id INTEGER,
    channel_id INTEGER NOT NULL,
    message_id INTEGER,
    private INTEGER NOT NULL CHECK (private IN (0, 1)),
    locale TEXT NOT NULL,
    interaction_token TEXT,
    token_expires_at INTEGER,
    upload_limit_bytes INTEGER NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('queued', 'running', 'done', 'failed', 'cancelled')),
    attempts INTEGER NOT NULL,
    delivery_state TEXT NOT NULL CHECK (delivery_state IN ('none', 'pending', 'delivered', 'kept', 'deleted')),
    created_at INTEGER NOT NULL,
    started_at INTEGER,
    finished_at INTEGER,
    error TEXT,
    clip_name TEXT,
    facts TEXT,
    CHECK ((preset_id IS NULL) = (preset_version IS NULL)),
    -- A token without an end would never be erased.
    CHECK (interaction_token IS NULL OR token_expires_at IS NOT NULL),
    FOREIGN KEY (preset_id, preset_version) REFERENCES preset_versions (preset_id, version)
) STRICT;

-- The partial indexes below hold only the few rows that still need something.
CREATE INDEX jobs_unfinished ON jobs (created_at) WHERE status IN ('queued', 'running');
CREATE INDEX jobs_undelivered ON jobs (created_at) WHERE delivery_state = 'pending';
CREATE INDEX jobs_with_token ON jobs (token_expires_at) WHERE interaction_token IS NOT NULL;
CREATE INDEX jobs_with_clip ON jobs (clip_name) WHERE clip_name IS NOT NULL;
CREATE INDEX jobs_of_preset ON jobs (preset_id, created_at) WHERE preset_id IS NOT NULL;
CREATE INDEX jobs_of_user ON jobs (user_id, created_at) WHERE delivery_state <> 'deleted';

-- For the totals, and for one person's unfinished jobs.
CREATE INDEX jobs_usage ON jobs (user_id, status, duration_s);
