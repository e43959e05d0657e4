// The overview: what the manifests say of the data sets, and what rows add to it.

const tokenKind = (name, data) => data.tokens[MODEL.kinds[name]] || 0;
const used = (data) => data.slots - data.tokens.padding;
const section = (title, ...children) =>
  el("section", { class: "card" }, el("h2", null, title), children);

function lead() {
  const shown = MODEL.datasets;
  const rows = sum(shown.map((data) => data.rows));
  const lengths = [...new Set(shown.map((data) => count(data.sequence_length)))];
  const how = MODEL.sampled ? "taken evenly, the data sets alike" : "in their order";
  return el("section", null,
    el("h1", { class: "isolate" }, MODEL.pattern),
    el("p", { class: "soft" },
      `${plural(shown.length, "data set")}, ${plural(rows, "row")} of `
      + `${lengths.join(" or ")} slots, `
      + `${count(sum(shown.map(used)))} tokens. `
      + `${plural(MODEL.rows.length, "row")} to browse, ${how}.`),
    MODEL.left_out ? el("p", { class: "warn" },
      `${plural(MODEL.left_out, "chosen row")} left out: the images of a page are kept `
      + `to ${count(Math.round(MODEL.image_budget / 2 ** 20))} MiB.`) : null,
    shown.map((data) => (data.matched_rows === data.rows ? null
      : el("p", { class: "soft small" },
        `${data.label}: rows are of ${plural(data.matched_shards, "shard")} with `
        + `${count(data.matched_rows)} of its ${count(data.rows)} rows; what stands below `
        + "is of the whole data set, but returns and lengths of those rows."))),
    el("p", { class: "soft small keys" }, "Keys: ", el("kbd", null, "/"), " search, ",
      el("kbd", null, "←"), " ", el("kbd", null, "→"), " rows, ",
      el("kbd", null, "o"), " overview, ", el("kbd", null, "Esc"), " leave the search."));
}

function mixture() {
  const tokens = sum(MODEL.datasets.map(used));
  return section("Mixture",
    table(["data set", "#weight", "#share of weights", "", "#rows", "#tokens",
      "#share of tokens", "splits"],
    MODEL.datasets.map((data) => [
      el("a", { href: `#rows?${encodeURIComponent(data.label)}` }, data.label),
      figure(data.weight), percent(data.share, 1),
      stacked([{ name: "share of weights", look: "ka", value: data.share }], 1),
      count(data.rows), count(used(data)), percent(used(data), tokens),
      el("span", { class: "small" }, Object.entries(data.splits).map(([name, split]) =>
        `${name} ${count(split.rows)} (${plural(split.shards, "shard")})`).join(", ")),
    ])));
}

function tokens() {
  const kinds = KINDS.map((name, at) => ({ name, at }));
  const order = [...kinds.slice(1), kinds[0]];
  const present = order.filter(({ at }) =>
    MODEL.datasets.some((data) => tokenKind(at, data)));
  return section("Slots by kind", legend(present.map(({ name, at }) => [`k${at}`, name])),
    table(["data set", "", "#targets"], MODEL.datasets.map((data) => [
      data.label,
      stacked(present.map(({ name, at }) => ({
        name, look: `k${at}`, value: tokenKind(at, data),
      })), data.slots),
      percent(data.targets, data.slots),
    ])),
    folded("Numbers", false, () => table(
      ["data set", ...present.map(({ name }) => `#${name}`), "#all slots"],
      MODEL.datasets.map((data) => [data.label,
        ...present.map(({ at }) => count(tokenKind(at, data))), count(data.slots)]))));
}

function padding() {
  return section("Padding against its floor",
    el("p", { class: "soft small" },
      "The floor is what packing all segments of a split at once would leave, longest "
      + "first, each into the row that it fits best."),
    table(["data set", "", "#padding", "#floor", "#above it"],
      MODEL.datasets.map((data) => {
        const share = data.slots ? data.tokens.padding / data.slots : 0;
        const floor = { name: `floor ${percent(data.padding_floor, 1)}`, value: data.padding_floor };
        return [data.label,
          stacked([{ name: "padding", look: "k5", value: share }], 1, [floor]),
          percent(share, 1), percent(data.padding_floor, 1),
          percent(Math.max(0, share - data.padding_floor), 1)];
      })));
}

function prompts() {
  const shown = MODEL.datasets.filter((data) => data.prompts.windows);
  if (!shown.length) {
    return section("Prompts", el("p", { class: "soft" },
      "No windows of episodes here, so nothing is prompted."));
  }
  const why = { no_provider: "no other episode of its task",
    no_fit: "max_tokens below a timestep", no_room: "no room in the row" };
  return section("Prompts",
    legend([["kp", "the end of an episode"], ["k2", "a run of an episode"],
      ["kb", "could not be prompted"]]),
    table(["data set", "", "#windows", "#prompted", "#asked for", "#of the slots", "could not"],
      shown.map((data) => {
        const all = data.prompts;
        const failed = Object.keys(why).filter((key) => all[key]);
        return [data.label,
          stacked([{ name: "the end", look: "kp", value: all.tail },
            { name: "a run", look: "k2", value: all.uniform },
            { name: "could not", look: "kb", value: sum(failed.map((key) => all[key])) },
          ], all.windows),
          count(all.windows), percent(all.prompted, all.windows),
          data.prompt_fraction === null ? "unknown" : percent(data.prompt_fraction, 1),
          percent(data.prompt_tokens, data.slots),
          el("span", { class: "small" }, failed.map((key) =>
            `${count(all[key])}: ${why[key]}`).join("; ") || "none")];
      })));
}

function accounts() {
  const total = (data) => sum(Object.values(data.accounts.quarantined));
  return section("Episodes and documents read",
    legend([["k3", "kept"], ["k2", "left out by the filter"], ["k5", "excluded"],
      ["kb", "quarantined"]]),
    table(["data set", "", "#read", "#kept", "#by the filter", "#excluded", "#quarantined"],
      MODEL.datasets.map((data) => {
        const { read, kept, low_return: low, excluded } = data.accounts;
        return [data.label,
          stacked([{ name: "kept", look: "k3", value: kept },
            { name: "left out by the filter", look: "k2", value: low },
            { name: "excluded", look: "k5", value: excluded },
            { name: "quarantined", look: "kb", value: total(data) }], read),
          `${count(read)} ${data.items}`, count(kept), count(low), count(excluded),
          count(total(data))];
      })));
}

function taskCard(task, data) {
  const wide = Math.max(180, Math.min(250, document.body.clientWidth - 60));
  const whole = data.survey.complete;
  const least = task.threshold.value;
  const known = whole ? "" : `Drawn from ${plural(task.episodes_seen, "episode")} in `
    + `${count(data.survey.rows)} of ${count(data.rows)} rows, where long episodes are `
    + "seen more often.";
  const marks = [
    { value: least, name: "kept from here", look: "cut" },
    { value: task.expert_return, name: "expert", look: "told" },
    { value: task.random_return, name: "random", look: "told" }];
  const returns = task.returns
    ? histogramPlot(task.returns, marks, "k3", wide)
    : el("p", { class: "soft small" }, "No episode of it in the rows that were read.");
  const lengths = task.lengths && histogramPlot(task.lengths, [], "k1", wide);
  const left = task.low_return
    ? `${plural(task.low_return, "episode")} left out; a build does not hold their returns. `
    : "None left out. ";
  return el("div", { class: "task" }, el("h3", { class: "isolate" }, task.name),
    facts([["read", count(task.episodes_read)], ["kept", count(task.kept)],
      ["timesteps", count(task.timesteps)],
      ["expert return", figure(task.expert_return)],
      ["random return", figure(task.random_return)],
      ["success", task.successes
        ? `${count(task.successes[0])} of ${count(task.successes[1])} seen` : "not told"]]),
    el("div", { class: "plots" },
      el("div", null, el("p", { class: "small soft" }, "Returns of kept episodes"), returns),
      lengths ? el("div", null, el("p", { class: "small soft" }, whole
        ? "Timesteps of kept episodes" : "How far into each the rows seen go"), lengths)
        : null),
    el("p", { class: "small" }, "Threshold: ",
      least === null ? task.threshold.why : `${figure(least)}, ${task.threshold.why}`,
      ". ", el("span", { class: "soft" }, left + known)),
    el("p", { class: "small soft" }, task.kept
      ? `${figure(task.timesteps / task.kept)} timesteps an episode on average` : "none kept",
    ". From ", task.agents.map((agent, at) => [at ? ", " : "", code(agent)])));
}

function tasks() {
  const shown = MODEL.datasets.filter((data) => data.tasks.length);
  if (!shown.length) return null;
  return section("Returns and episode lengths", shown.map((data) =>
    folded(`${data.label}: ${plural(data.tasks.length, "task")}`, data.tasks.length <= 6,
      () => el("div", { class: "grid" }, data.tasks.map((task) => taskCard(task, data))))));
}

function quarantine() {
  const shown = MODEL.datasets.filter((data) =>
    data.quarantine.reasons.length || data.quarantine.missing);
  if (!shown.length) {
    return section("Quarantine", el("p", { class: "soft" }, "Nothing was quarantined."));
  }
  return section("Quarantine", shown.map((data) => el("div", null,
    el("h3", null, data.label),
    data.quarantine.missing ? el("p", { class: "soft small" },
      "There is no quarantine.jsonl beside the shards, so no examples.") : null,
    data.quarantine.reasons.map((each) => folded(
      `${each.reason}: ${plural(each.count, data.items.slice(0, -1))}`,
      data.quarantine.reasons.length <= 3,
      () => each.examples.length ? el("ul", { class: "small" }, each.examples.map((one) =>
        el("li", null, code(one.episode || one.source), " ",
          el("span", { class: "isolate" }, one.detail),
          one.episode ? [" in ", code(one.source)] : null)))
        : el("p", { class: "soft small" }, "No example in quarantine.jsonl."))))));
}

function drawOverview() {
  document.getElementById("overview").replaceChildren(...[lead(), mixture(), tokens(),
    padding(), accounts(), tasks(), prompts(), quarantine()].filter(Boolean));
}
