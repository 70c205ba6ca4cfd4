"use strict";

const data = JSON.parse(document.getElementById("run-data").textContent);

// One clip at a time: of two that play together neither can be heard.
document.addEventListener("play", (event) => {
  for (const audio of document.querySelectorAll("audio")) {
    if (audio !== event.target) audio.pause();
  }
}, true);

// ---------------------------------------------------------------- tables, sorted by their headings

for (const button of document.querySelectorAll("thead button")) {
  button.addEventListener("click", () => {
    const heading = button.closest("th");
    const body = heading.closest("table").tBodies[0];
    const falling = heading.getAttribute("aria-sort") === "ascending";
    for (const other of heading.parentElement.children) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", falling ? "descending" : "ascending");
    const value = (row) => row.cells[heading.cellIndex].dataset.value ?? "";
    const isNumber = heading.classList.contains("number");
    const order = (one, other) => {
      const [a, b] = [value(one), value(other)];
      if (a === "" || b === "") return (a === "") - (b === "");  // what was not measured stays below
      const difference = isNumber ? Number(a) - Number(b) : a.localeCompare(b, "en", { numeric: true });
      return falling ? -difference : difference;
    };
    body.append(...[...body.rows].sort(order));
  });
}

// ---------------------------------------------------------------- blind comparison

const dialog = document.getElementById("blind");
if (dialog) {
  const part = (name) => dialog.querySelector(`[data-part="${name}"]`);
  const sides = [part("first"), part("second")];
  const choices = [...dialog.querySelectorAll("[data-choice]")];
  let pairs = [];
  let ratings = [];
  let saved = true;

  const random = (below) => {
    const [number] = crypto.getRandomValues(new Uint32Array(1));
    return Math.floor(number / 2 ** 32 * below);
  };

  const shuffled = (list) => {
    const result = [...list];
    for (let last = result.length - 1; last > 0; last -= 1) {
      const other = random(last + 1);
      [result[last], result[other]] = [result[other], result[last]];
    }
    return result;
  };

  const show = (name) => {
    for (const screen of dialog.querySelectorAll("[data-screen]")) screen.hidden = screen.dataset.screen !== name;
    const heading = dialog.querySelector(`[data-screen="${name}"] h2`);
    heading.focus();
  };

  const stop = () => {
    for (const side of sides) side.querySelector("audio").pause();
  };

  const refresh = () => {
    const heard = sides.filter((side) => side.dataset.heard === "yes").length;
    for (const choice of choices) choice.disabled = heard < 2;
    part("hint").textContent = heard < 2 ? "Play both clips, then choose." : "Choose, or listen again.";
  };

  const next = () => {
    stop();
    if (ratings.length === pairs.length) {
      reveal();
      return;
    }
    const pair = pairs[ratings.length];
    part("place").textContent = `Pair ${ratings.length + 1} of ${pairs.length}`;
    part("scene").textContent = pair.scene;
    part("progress").max = pairs.length;
    part("progress").value = ratings.length;
    sides.forEach((side, number) => {
      side.dataset.heard = "";
      side.querySelector("audio").src = document.querySelector(`[data-clip="${pair.order[number].clip}"] audio`).src;
    });
    refresh();
    show("pair");
  };

  const start = () => {
    const name = part("experiment").value;
    pairs = shuffled(data.pairs.filter((pair) => pair.experiment === name)).map((pair) => ({
      ...pair, order: random(2) ? [pair.one, pair.other] : [pair.other, pair.one],
    }));
    ratings = [];
    saved = true;
    next();
  };

  const choose = (choice) => {
    const pair = pairs[ratings.length];
    const preferred = { A: pair.order[0], B: pair.order[1] }[choice] ?? null;
    ratings.push({
      experiment: pair.experiment, scene: pair.scene, seed: pair.seed, A: pair.order[0], B: pair.order[1],
      choice, preferred: preferred && preferred.clip, rated_at: new Date().toISOString(),
    });
    saved = false;
    next();
  };

  const row = (...cells) => {
    const line = document.createElement("tr");
    cells.forEach((text, number) => {
      const cell = document.createElement(number ? "td" : "th");
      cell.textContent = text;
      if (typeof text === "number") cell.className = "number";
      line.append(cell);
    });
    return line;
  };

  const reveal = () => {
    stop();
    const counts = new Map();
    for (const rating of ratings) {
      for (const side of ["A", "B"]) {
        const count = counts.get(rating[side].label) ?? { shown: 0, preferred: 0, even: 0 };
        count.shown += 1;
        if (rating.choice === side) count.preferred += 1;
        if (rating.choice === "none") count.even += 1;
        counts.set(rating[side].label, count);
      }
    }
    const lines = [...counts].sort(([a], [b]) => a.localeCompare(b, "en", { numeric: true }));
    part("counts").replaceChildren(...lines.map(([label, c]) => row(label, c.shown, c.preferred, c.even)));
    const words = (rating) => rating.choice === "none" ? "no difference" : `${rating.choice}: ${rating[rating.choice].label}`;
    part("list").replaceChildren(...ratings.map((r) => row(`${r.scene}, seed ${r.seed}`, r.A.label, r.B.label, words(r))));
    part("rated").textContent = `${ratings.length} of ${pairs.length} pairs rated.`;
    show("reveal");
  };

  const save = () => {
    const content = {
      format: "ambientgen-ratings", version: 1, run_id: data.run_id, title: data.title, weights: data.weights,
      saved_at: new Date().toISOString(), num_pairs: pairs.length, ratings,
    };
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([JSON.stringify(content, null, 1)], { type: "application/json" }));
    link.download = `ratings-${data.run_id}.json`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    saved = true;
  };

  const mayLeave = () => saved || confirm("Your ratings are not saved yet. Leave without saving?");

  for (const side of sides) {
    side.querySelector("audio").addEventListener("playing", () => {
      side.dataset.heard = "yes";
      refresh();
    });
  }
  for (const choice of choices) choice.addEventListener("click", () => choose(choice.dataset.choice));
  for (const button of dialog.querySelectorAll("[data-do]")) {
    button.addEventListener("click", () => ({ start, reveal, save, close: () => mayLeave() && dialog.close() })[button.dataset.do]());
  }
  document.getElementById("open-blind").addEventListener("click", () => {
    stop();
    dialog.showModal();
    show("start");
  });
  dialog.addEventListener("cancel", (event) => {
    if (!mayLeave()) event.preventDefault();
  });
  dialog.addEventListener("close", stop);
  addEventListener("beforeunload", (event) => {
    if (!saved) event.preventDefault();
  });
}
