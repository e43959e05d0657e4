// Views by the address's fragment, the search, sources, and keys.

const VIEWS = ["overview", "rows", "sources"];
const view = (name) => document.getElementById(name);
const state = { query: "", dataset: "", task: "", shown: [], row: null };

function matches(at) {
  const row = MODEL.rows[at];
  return (!state.dataset || MODEL.datasets[row.dataset].label === state.dataset)
    && (!state.task || tasksOf(row).includes(state.task))
    && state.query.toLowerCase().split(/\s+/).every((word) => HAYSTACKS[at].includes(word));
}

const options = (first, names) => [el("option", { value: "" }, first),
  names.map((name) => el("option", { value: name }, name))];
const search = el("input", { type: "search", placeholder: "Search ids and texts",
  "aria-label": "Search rows", autocomplete: "off" });
const byDataset = el("select", { "aria-label": "Data set" },
  options("all data sets", MODEL.datasets.map((data) => data.label)));
const byTask = el("select", { "aria-label": "Task" });
const found = el("div", { class: "count soft small", "aria-live": "polite" });
const items = el("nav", { class: "items", "aria-label": "Rows" });
const detail = el("article", { class: "detail", "aria-live": "off" });
const links = MODEL.rows.map(item);

function offerTasks() {
  const rows = MODEL.rows.filter((row) =>
    !state.dataset || MODEL.datasets[row.dataset].label === state.dataset);
  const names = [...new Set(rows.flatMap(tasksOf))].sort();
  byTask.replaceChildren(...options("all tasks", names).flat());
  if (!names.includes(state.task)) state.task = "";
  byTask.value = state.task;
}

function refine() {
  state.shown = MODEL.rows.map((_, at) => at).filter(matches);
  found.textContent = `${count(state.shown.length)} of ${plural(MODEL.rows.length, "row")}`;
  items.replaceChildren(...state.shown.map((at) => links[at]));
  if (!state.shown.length) {
    items.append(el("p", { class: "soft filters" }, MODEL.rows.length
      ? "No row matches. Fewer words, or another data set?" : "The shards hold no rows."));
  }
}

function setFilter(change) {
  Object.assign(state, change);
  offerTasks();
  refine();
  if (state.row !== null) openRow(state.row);
}

function openRow(at) {
  state.row = at;
  links.forEach((link, number) => {
    if (number === at) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  });
  links[at].scrollIntoView({ block: "nearest" });
  drawRow(at, state.shown, detail);
}

function drawSources() {
  const uses = (source) => source.uses.map((use, at) => [at ? ", " : "",
    el("a", { href: `#row-${use.row}-${use.segment}` },
      `${titleOf(MODEL.rows[use.row])}, segment ${use.segment + 1}`),
    use.role === "prompt" ? " as prompt" : ""]);
  view("sources").replaceChildren(
    el("h1", null, "Sources"),
    el("p", { class: "soft" }, "Episodes and documents in the rows of this page, with "
      + "their place as the build's config names it, and the segments made of them."),
    ...MODEL.datasets.map((data, number) => el("section", { class: "card" },
      el("h2", null, data.label),
      MODEL.sources.map((source, at) => source.dataset !== number ? null
        : el("div", { class: "source", id: `source-${at}` }, code(source.name),
          el("div", { class: "small soft" }, "in ", pathsOf(at)),
          el("div", { class: "small" }, uses(source)))))));
}

function show(name) {
  for (const each of VIEWS) view(each).hidden = each !== name;
  for (const link of document.querySelectorAll(".top nav a")) {
    if (link.dataset.view === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

// What is shown. The browser tells of a change only later, and by then the next key may
// have been pressed.
let followed = null;

function follow() {
  if (location.hash === followed) return;
  followed = location.hash;
  let hash = location.hash.slice(1);
  try {
    hash = decodeURIComponent(hash);
  } catch {
    // A stray % names nothing; the overview is shown.
  }
  const row = /^row-(\d+)(?:-(\d+))?$/.exec(hash);
  if (row && Number(row[1]) < MODEL.rows.length) {
    show("rows");
    view("rows").classList.add("open");
    openRow(Number(row[1]));
    if (row[2]) document.getElementById(hash).scrollIntoView();
    else window.scrollTo(0, 0);
  } else if (hash.startsWith("rows")) {
    show("rows");
    view("rows").classList.remove("open");
    if (hash.includes("?")) {
      byDataset.value = hash.slice(hash.indexOf("?") + 1);
      setFilter({ dataset: byDataset.value });
    }
    // Beside the list on a wide screen stands a row, always.
    if (state.shown.length && !state.shown.includes(state.row)) openRow(state.shown[0]);
  } else if (hash.startsWith("source")) {
    if (!view("sources").childNodes.length) drawSources();
    show("sources");
    const place = document.getElementById(hash);
    if (place && hash.startsWith("source-")) place.scrollIntoView({ block: "center" });
    else window.scrollTo(0, 0);
  } else {
    show("overview");
    window.scrollTo(0, 0);
  }
}

function go(hash) {
  location.hash = hash;
  follow();
}

function move(by) {
  const { shown, row } = state;
  if (!shown.length) return;
  const place = shown.indexOf(row);
  const next = place < 0 ? 0 : Math.max(0, Math.min(shown.length - 1, place + by));
  go(`row-${shown[next]}`);
}

const MOVES = { ArrowRight: 1, ArrowLeft: -1, j: 1, k: -1 };

function press(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target === search;
  const inList = typing || items.contains(event.target);
  let done = true;
  if (typing && event.key === "Escape") {
    search.value = "";
    setFilter({ query: "" });
    search.blur();
  } else if (inList && event.key === "ArrowDown") move(1);
  else if (inList && event.key === "ArrowUp") move(-1);
  else if (typing && event.key === "Enter" && state.shown.length) {
    go(`row-${state.shown[0]}`);
  } else if (/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
  else if (event.key === "/") {
    if (view("rows").hidden || view("rows").classList.contains("open")) {
      go("rows");
    }
    search.focus();
    search.select();
  } else if (event.key === "o") go("overview");
  else if (MOVES[event.key] && !event.target.closest(".film")) move(MOVES[event.key]);
  else done = false;
  if (done) event.preventDefault();
}

view("rows").append(el("aside", { class: "list" },
  el("div", { class: "filters" }, search, byDataset, byTask, found), items), detail);
search.addEventListener("input", () => setFilter({ query: search.value.trim() }));
byDataset.addEventListener("change", () => setFilter({ dataset: byDataset.value }));
byTask.addEventListener("change", () => setFilter({ task: byTask.value }));
document.addEventListener("keydown", press);
window.addEventListener("hashchange", follow);
let width = window.innerWidth;
window.addEventListener("resize", () => {
  // A phone's address bar comes and goes: only widths change drawings.
  if (window.innerWidth === width) return;
  width = window.innerWidth;
  if (state.row !== null) openRow(state.row);
});
offerTasks();
refine();
drawOverview();
follow();
