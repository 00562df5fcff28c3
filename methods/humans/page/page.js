"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const flags = data.dimensions.filter((d) => d.kind === "flag");
  const asked = data.dimensions.filter((d) => d.kind !== "flag");
  const WHO = { user: "Question", assistant: "Answer", system: "System", tool_call: "Tool call", tool: "Tool" };
  const END = data.tasks.length;
  let rater = "", at = 0, labels = {}, kept = true;

  // Everything that comes from rows or guidelines becomes text here, and never markup.
  function el(tag, attributes, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
      else if (value !== undefined && value !== null && value !== false) made.setAttribute(name, value === true ? "" : value);
    }
    made.append(...children.filter((child) => child !== null && child !== undefined));
    return made;
  }

  // ---- what is kept ---------------------------------------------------------------------------------------------------
  // labels: task id -> { values: { dimension: [value, time] }, order: [[row ids of a place], ...], done: time }
  const place = () => `sluice-audit:${data.audit}:${rater}`;
  function save() {
    try {
      localStorage.setItem(place(), JSON.stringify({ labels, at }));
      kept = true;
    } catch { kept = false; }
    const said = $("saved");
    said.classList.toggle("bad", !kept);
    said.textContent = kept ? "Saved in this browser" : "Not saved: this browser keeps nothing. Download before you close the page.";
  }
  function load() {
    try {
      const found = JSON.parse(localStorage.getItem(place()));
      if (found && typeof found.labels === "object") { labels = found.labels; at = Math.min(Math.max(0, found.at | 0), END - 1); return; }
    } catch { /* nothing there, or not allowed */ }
    labels = {}; at = 0;
  }
  const mine = (task) => (labels[task.id] ||= { values: {} });
  const valueOf = (task, name) => labels[task.id]?.values[name]?.[0];
  const waived = (task) => valueOf(task, "spam") === 1;
  const needed = (task) => asked.filter((d) => d.name === "spam" || !waived(task));
  function done(task) {
    if (task.replies.length) return Boolean(labels[task.id]?.done);
    return needed(task).every((d) => valueOf(task, d.name) !== undefined);
  }
  const begun = (task) => Object.keys(labels[task.id]?.values || {}).length > 0 || Boolean(labels[task.id]?.order);
  function set(task, name, value) {
    mine(task).values[name] = [value, new Date().toISOString()];
    save();
    progress();
  }

  function lines() {
    const said = [];
    const add = (row_id, dimension, value, timestamp, group) =>
      said.push({ row_id, rater, dimension, value, timestamp, audit: data.audit, ...(group ? { group } : {}) });
    for (const task of data.tasks) {
      const mine = labels[task.id];
      if (!mine) continue;
      if (task.replies.length) {
        if (mine.done) mine.order.forEach((tied, i, all) => {
          const first = 1 + all.slice(0, i).reduce((n, group) => n + group.length, 0);
          tied.forEach((row) => add(row, data.rank, first, mine.done, task.id));
        });
        continue;
      }
      for (const d of asked) if (mine.values[d.name]) add(task.id, d.name, ...mine.values[d.name]);
      // A flag that was left alone says "no" only once the task is done.
      const last = Object.values(mine.values).map((pair) => pair[1]).sort().pop();
      for (const d of flags) {
        if (mine.values[d.name]) add(task.id, d.name, ...mine.values[d.name]);
        else if (done(task)) add(task.id, d.name, 0, last);
      }
    }
    return said;
  }
  function download() {
    const text = lines().map((line) => JSON.stringify(line) + "\n").join("");
    const name = rater.normalize("NFKD").replace(/[^A-Za-z0-9]+/g, "-").replace(/^-+|-+$/g, "").toLowerCase() || "rater";
    const url = URL.createObjectURL(new Blob([text], { type: "application/x-ndjson" }));
    el("a", { href: url, download: `labels-${data.audit}-${name}.jsonl` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10000);
  }

  // ---- pieces ---------------------------------------------------------------------------------------------------------
  /** Paragraphs, lists and **bold** of the guidelines. */
  function prose(text) {
    const bold = (line) => line.split(/\*\*(.+?)\*\*/).map((part, i) => (i % 2 ? el("strong", {}, part) : part));
    return text.split(/\n\s*\n/).filter((block) => block.trim()).map((block) => {
      const rows = block.split("\n");
      if (rows[0].startsWith("#")) return el("h2", {}, rows[0].replace(/^#+\s*/, ""));
      if (rows.every((row) => row.startsWith("- "))) return el("ul", {}, ...rows.map((row) => el("li", {}, ...bold(row.slice(2)))));
      return el("p", { dir: "auto" }, ...bold(rows.join(" ")));
    });
  }
  function hint(name) {
    const text = data.hints[name];
    if (!text) return null;
    const [, first, rest] = text.match(/^(.+?[.!?。？！])\s+(.+)$/s) || [null, text, ""];
    if (!rest) return el("p", { class: "hint", dir: "auto" }, first);
    return el("details", { class: "hint", dir: "auto" }, el("summary", { tabindex: "-1" }, first), rest);
  }
  function message(role, content, judged) {
    const code = role === "tool_call" || role === "tool";
    return el("section", { class: `said ${role in WHO ? role : "user"}${judged ? " judged" : ""}` },
      el("span", { class: "who" }, judged ? "Answer to judge" : WHO[role] || role),
      el("div", { class: `text${code ? " code" : ""}`, dir: "auto" }, content));
  }
  function choices(task, dimension, options) {
    const chosen = valueOf(task, dimension.name);
    return options.map(([value, shown, spoken]) => el("label", { class: "step" },
      el("input", { type: "radio", name: dimension.name, value: String(value), checked: chosen === value, "aria-label": spoken,
        onchange: () => { set(task, dimension.name, value); if (dimension.name === "spam") waive(task); } }),
      el("span", { "aria-hidden": "true" }, shown)));
  }
  function question(task, d) {
    const steps = Array.from({ length: data.steps }, (_, i) => [i / (data.steps - 1), String(i + 1),
      `${i + 1} of ${data.steps}${i === 0 ? ", " + d.low : i === data.steps - 1 ? ", " + d.high : ""}`]);
    const row = d.kind === "likert"
      ? el("div", { class: "scale" }, el("span", { class: "end first" }, d.low), ...choices(task, d, steps), el("span", { class: "end" }, d.high))
      : el("div", { class: "scale" }, ...choices(task, d, [[1, "Yes", "Yes"], [0, "No", "No"]]));
    return el("fieldset", { "data-name": d.name, "data-kind": d.kind }, el("legend", {}, d.title), hint(d.name), row);
  }
  function flagging(task) {
    return el("fieldset", { "data-name": "flags", "data-kind": "flags" }, el("legend", {}, "Flags"), hint("flags"),
      el("div", { class: "flags" }, ...flags.map((d) => el("label", { class: "flag", title: data.hints[d.name] || "" },
        el("input", { type: "checkbox", name: d.name, checked: valueOf(task, d.name) === 1,
          onchange: (event) => set(task, d.name, event.target.checked ? 1 : 0) }),
        el("span", {}, d.title)))));
  }
  function waive(task) {
    for (const field of document.querySelectorAll("fieldset")) {
      field.classList.toggle("waived", waived(task) && !["spam", "flags"].includes(field.dataset.name));
    }
  }
  function activate(field, focus) {
    document.querySelectorAll("fieldset.on").forEach((other) => other.classList.remove("on"));
    if (!field) return;
    field.classList.add("on");
    if (focus) {
      (field.querySelector("input:checked") || field.querySelector("input")).focus({ preventScroll: true });
      field.scrollIntoView({ block: "nearest" });
    }
  }

  // ---- screens --------------------------------------------------------------------------------------------------------
  function rating(task) {
    const last = task.messages.length - 1;
    const talk = el("div", {}, el("p", { class: "where" }, `${at + 1} of ${END}`),
      ...task.messages.map(([role, content], i) => message(role, content, i === last && role === "assistant")));
    const likert = asked.filter((d) => d.kind === "likert"), yes = asked.filter((d) => d.kind === "yes_no");
    const form = el("form", { class: "form", "aria-label": "Your judgement", onsubmit: (event) => event.preventDefault() },
      ...yes.map((d) => question(task, d)), flagging(task), ...likert.map((d) => question(task, d)));
    form.addEventListener("focusin", (event) => activate(event.target.closest("fieldset")));
    $("main").replaceChildren(el("div", { class: "task" }, talk, form));
    waive(task);
    const open = [...form.querySelectorAll("fieldset")].find((field) => field.dataset.kind !== "flags" && !field.querySelector("input:checked"));
    activate(open || form.querySelector("fieldset"), true);
    form.scrollTop = 0;
  }

  function ranking(task) {
    const texts = Object.fromEntries(task.replies);
    const order = () => (mine(task).order ||= task.replies.map(([row]) => [row]));
    const change = (next) => { mine(task).order = next; mine(task).done = undefined; save(); show(); };
    const list = el("ol", { class: "ranking" });
    function show(focus) {
      const rows = order().flatMap((tied, i, all) => tied.map((row, j) =>
        [row, 1 + all.slice(0, i).reduce((n, group) => n + group.length, 0), j > 0]));
      list.replaceChildren(...rows.map(([row, position, tied], k) => {
        const move = (step) => {
          const flat = rows.map(([r]) => r);
          [flat[k], flat[k + step]] = [flat[k + step], flat[k]];
          // The two that change places are tied with nobody; other ties stay.
          const first = Math.min(k, k + step);
          change(flat.reduce((groups, r, i) => {
            if (rows[i][2] && (i < first || i > first + 2)) groups.at(-1).push(r);
            else groups.push([r]);
            return groups;
          }, []));
          list.children[k + step].querySelector(step < 0 ? ".up" : ".down").focus();
        };
        const tie = () => {
          const all = order().map((group) => [...group]);
          const i = all.findIndex((group) => group.includes(row));
          if (tied) { const j = all[i].indexOf(row); all.splice(i, 1, all[i].slice(0, j), all[i].slice(j)); }
          else { all[i - 1].push(...all[i]); all.splice(i, 1); }
          change(all);
          list.children[k].querySelector(".tie").focus();
        };
        return el("li", { class: tied ? "tied" : "" },
          el("span", { class: "place" }, String(position)),
          el("div", { class: "text", dir: "auto" }, texts[row]),
          el("div", { class: "tools" },
            el("button", { type: "button", class: "up", disabled: k === 0, onclick: () => move(-1) }, "↑ up"),
            el("button", { type: "button", class: "down", disabled: k === rows.length - 1, onclick: () => move(1) }, "↓ down"),
            el("button", { type: "button", class: "tie", disabled: k === 0, onclick: tie }, tied ? "below" : "= tie")));
      }));
      confirm.textContent = labels[task.id]?.done ? "Ranked ✓" : "This is my ranking";
      progress();
    }
    const confirm = el("button", { type: "button", class: "main", onclick: () => {
      order(); mine(task).done = new Date().toISOString(); save(); show(); $("next").focus();
    } });
    $("main").replaceChildren(el("div", {}, el("p", { class: "where" }, `${at + 1} of ${END}: put these answers in order`),
      ...task.messages.map(([role, content]) => message(role, content, false)), hint("rank"), list, confirm));
    show();
  }

  function finish() {
    const open = data.tasks.filter((task) => !done(task)).length;
    $("main").replaceChildren(el("div", { class: "end-page" }, el("div", { class: "tick", "aria-hidden": "true" }, open ? "…" : "✓"),
      el("h1", {}, open ? `${open} of ${END} are still open` : "All done. Thank you!"),
      el("p", {}, "Download your labels and send the file to whoever asked you for them. Nothing has left this computer."),
      el("button", { type: "button", class: "main", onclick: download }, "Download labels")));
  }

  function progress() {
    const count = data.tasks.filter(done).length;
    $("fill").style.width = `${END ? (100 * count) / END : 0}%`;
    $("progress").setAttribute("aria-valuemax", END);
    $("progress").setAttribute("aria-valuenow", count);
    [...$("dots").children].forEach((dot, i) => {
      const task = data.tasks[i];
      dot.className = `${done(task) ? "done" : begun(task) ? "begun" : ""}${i === at ? " now" : ""}`;
    });
    $("back").disabled = at === 0;
    $("skip").hidden = $("next").hidden = at >= END;
    $("next").disabled = at < END && !done(data.tasks[at]);
    $("next").textContent = at === END - 1 ? "Finish" : "Next →";
  }
  function go(to) {
    at = Math.min(Math.max(0, to), END);
    if (at === END) finish();
    else (data.tasks[at].replies.length ? ranking : rating)(data.tasks[at]);
    save();
    progress();
    window.scrollTo(0, 0);
  }

  function start() {
    const input = el("input", { id: "rater", required: true, maxlength: "100", autocomplete: "off", placeholder: "Your name or initials", "aria-label": "Your name or initials" });
    const begin = (event) => {
      event.preventDefault();
      rater = input.value.trim();
      if (!rater) return;
      load();
      $("bar").hidden = $("foot").hidden = false;
      go(at);
    };
    $("main").replaceChildren(el("div", { class: "start" }, el("p", { class: "brand" }, "Sluice · audit"),
      el("h1", { dir: "auto" }, data.title),
      el("p", {}, `${END} ${END === 1 ? "task" : "tasks"} to read and rate. Your labels stay in this browser until you download them; whoever comes back under the same name goes on where they stopped.`),
      el("form", { onsubmit: begin }, input, el("button", { class: "main" }, "Start")),
      el("div", { class: "guide" }, ...prose(data.intro)),
      el("p", { class: "note" }, "This page works without a network and sends nothing.")));
    input.focus();
  }

  // ---- everything around ----------------------------------------------------------------------------------------------
  function open(...children) { $("said").replaceChildren(...children); $("dialog").showModal(); }
  const guidelines = () => open(...prose(data.intro), ...[...data.dimensions, { name: data.rank, title: "Ranking" }]
    .filter((d) => data.hints[d.name]).flatMap((d) => [el("h2", {}, d.title), ...prose(data.hints[d.name])]));
  const KEYS = [["1 – 5", "a step of the scale; then the next question"], ["y  n", "yes, no; then the next question"],
    ["1 – 7", "in the flags: tick or untick"], ["j  k", "next or previous question"], ["Enter", "next task, once this one is done"],
    ["→  ←", "next or previous task (Alt with it, in a question)"], ["s", "skip"], ["g", "guidelines"], ["?", "these keys"]];
  const help = () => open(el("h2", {}, "Keys"), el("dl", {}, ...KEYS.flatMap(([key, what]) => [el("dt", {}, el("kbd", {}, key)), el("dd", {}, what)])));

  function keyed(event) {
    if ($("bar").hidden || $("dialog").open || event.ctrlKey || event.metaKey) return;
    const field = document.querySelector("fieldset.on"), fields = [...document.querySelectorAll("fieldset")];
    const step = (by) => activate(fields[Math.min(Math.max(0, fields.indexOf(field) + by), fields.length - 1)], true);
    const inside = document.activeElement?.tagName === "INPUT";
    const pick = (i) => {
      const input = field?.querySelectorAll("input")[i];
      if (!input) return false;
      input.click();
      if (field.dataset.kind !== "flags") step(1);
      return true;
    };
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    let did = true;
    if (/^[1-9]$/.test(key) && field && field.dataset.kind !== "yes_no") did = pick(Number(key) - 1);
    else if ((key === "y" || key === "n") && field?.dataset.kind === "yes_no") did = pick(key === "y" ? 0 : 1);
    else if (key === "j" && field) step(1);
    else if (key === "k" && field) step(-1);
    else if (key === "Enter" && document.activeElement?.tagName !== "BUTTON" && at < END && done(data.tasks[at])) go(at + 1);
    else if (key === "ArrowRight" && (event.altKey || !inside) && at < END) go(at + 1);
    else if (key === "ArrowLeft" && (event.altKey || !inside)) go(at - 1);
    else if (key === "s" && at < END) go(at + 1);
    else if (key === "g") guidelines();
    else if (key === "?") help();
    else did = false;
    if (did) event.preventDefault();
  }

  function theme(dark) { document.documentElement.classList.toggle("dark", dark); }
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  let wanted = null;
  try { wanted = localStorage.getItem("sluice-audit-theme"); } catch { /* not allowed */ }
  theme(wanted ? wanted === "dark" : system.matches);
  system.addEventListener("change", () => { if (!wanted) theme(system.matches); });
  $("theme").addEventListener("click", () => {
    wanted = document.documentElement.classList.contains("dark") ? "light" : "dark";
    theme(wanted === "dark");
    try { localStorage.setItem("sluice-audit-theme", wanted); } catch { /* not allowed */ }
  });
  $("title").textContent = data.title;
  $("dots").replaceChildren(...data.tasks.map((_, i) => el("li", {}, el("button", { type: "button", tabindex: "-1", title: `Task ${i + 1}`, "aria-label": `Task ${i + 1}`, onclick: () => go(i) }))));
  $("back").addEventListener("click", () => go(at - 1));
  $("skip").addEventListener("click", () => go(at + 1));
  $("next").addEventListener("click", () => go(at + 1));
  $("guide").addEventListener("click", guidelines);
  $("keys").addEventListener("click", help);
  $("close").addEventListener("click", () => $("dialog").close());
  $("download").addEventListener("click", download);
  window.addEventListener("keydown", keyed);
  window.addEventListener("beforeunload", (event) => { if (!kept) event.preventDefault(); });
  start();
})();
