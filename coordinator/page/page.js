// Draws /status.json every two seconds. Everything from outside goes in as text, never as markup.
"use strict";

const refreshMilliseconds = 2000;
const maxRigRows = 500;
const byId = (id) => document.getElementById(id);

let chosenJob = null;   // name; null: the newest that runs
let lostSince = null;   // when the pool stopped answering
let lastStatus = null;
let chart = null;

// For tests: how often something went wrong on this page, and what did last.
const {dataset} = document.documentElement;
dataset.errors = "0";
const countError = (event) => {
  dataset.errors = String(Number(dataset.errors) + 1);
  dataset.error = String(event.reason?.stack ?? event.error?.stack ?? event.message ?? event.violatedDirective);
};
window.addEventListener("error", countError);
window.addEventListener("unhandledrejection", countError);
document.addEventListener("securitypolicyviolation", countError);

// ---- text ----

const number = (value) => Math.round(value).toLocaleString("en-US");
const loss = (value) => (typeof value === "number" ? value.toFixed(4) : "–");
const clock = (date) => date.toLocaleTimeString("en-GB");

// Micro-credits as a string of digits → credits; six decimals, exact.
function credits(micro) {
  const digits = micro.padStart(7, "0");
  return Number(digits.slice(0, -6)).toLocaleString("en-US") + "." + digits.slice(-6);
}

function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let i = 0;
  for (; value >= 1024 && i + 1 < units.length; ++i) value /= 1024;
  return (i === 0 ? value : value.toFixed(1)) + " " + units[i];
}

function duration(seconds) {
  seconds = Math.max(0, Math.round(seconds));
  if (seconds < 60) return seconds + " s";
  if (seconds < 3600) return Math.floor(seconds / 60) + " min " + (seconds % 60) + " s";
  if (seconds < 86400) return Math.floor(seconds / 3600) + " h " + Math.floor((seconds % 3600) / 60) + " min";
  return Math.floor(seconds / 86400) + " d " + Math.floor((seconds % 86400) / 3600) + " h";
}

const last = (points) => (points.length > 0 ? points[points.length - 1] : null);
const setText = (id, text) => { byId(id).textContent = text; };

function cell(text, className) {
  const td = document.createElement("td");
  td.textContent = text;
  if (className) td.className = className;
  return td;
}

function row(...cells) {
  const tr = document.createElement("tr");
  tr.append(...cells);
  return tr;
}

function setBadge(element, state) {
  element.textContent = state;
  element.className = "badge " + state;
}

// ---- sections ----

function drawJobPicker(jobs, current) {
  const buttons = jobs.map((job) => {
    const button = document.createElement("button");
    button.textContent = job.job;
    button.setAttribute("aria-pressed", String(job === current));
    button.addEventListener("click", () => {
      chosenJob = job.job;
      draw(lastStatus);
    });
    return button;
  });
  byId("jobs").replaceChildren(...(jobs.length > 1 ? buttons : []));
}

function timeLeft(job) {
  if (job.state !== "running" || job.rounds_done === 0) return "";
  const perRound = (job.last_round_closed - job.created) / job.rounds_done;
  return "about " + duration(perRound * (job.rounds - job.rounds_done)) + " left";
}

function drawJob(job) {
  setText("job-name", job.job);
  setBadge(byId("job-state"), job.state);
  setText("job-detail", job.detail);
  byId("progress").max = Math.max(1, job.rounds);
  byId("progress").value = job.rounds_done;
  setText("rounds", `round ${number(job.rounds_done)} of ${number(job.rounds)} · ${number(job.tokens)} tokens · ` +
          `${number(job.parameters)} parameters`);
  setText("time-left", timeLeft(job));
  setText("validation-loss", loss(last(job.validation_loss)?.[1]));
  setText("training-loss", loss(last(job.training_loss)?.[1]));
  setText("rate", number(job.tokens_per_second));
  setText("accepted", number(job.units_accepted));
  setText("units-note", `${number(job.units_rejected)} rejected · ${number(job.units_out)} out`);
  setText("checks", number(job.checks_done));
  setText("checks-note", `${number(job.checks_failed)} failed`);
  setText("spent", credits(job.spent));
  setText("budget", `of ${credits(job.budget)}`);
  setText("weights", job.weights_digest ? "weights " + job.weights_digest : "");
}

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function chartConfiguration() {
  const line = (label, extra) => ({label, data: [], parsing: false, tension: 0.15, ...extra});
  return {
    type: "line",
    data: {datasets: [line("validation", {pointRadius: 3, borderWidth: 2, order: 1}),
                      line("training", {pointRadius: 0, borderWidth: 1.5, order: 2})]},
    options: {
      animation: false,
      responsive: true,
      maintainAspectRatio: false,
      interaction: {mode: "nearest", axis: "x", intersect: false},
      scales: {
        x: {type: "linear", title: {display: true, text: "round"}, ticks: {precision: 0}, beginAtZero: true},
        y: {title: {display: true, text: "loss"}, ticks: {}},
      },
      plugins: {
        legend: {position: "top", align: "end", labels: {boxWidth: 14, boxHeight: 2}},
        tooltip: {callbacks: {
          title: (items) => `round ${items[0].parsed.x}`,
          label: (item) => `${item.dataset.label} ${loss(item.parsed.y)}`,
        }},
      },
    },
  };
}

// In the colours of the page, which follow the system's light or dark scheme.
function paint({data, options}) {
  const [validation, training] = data.datasets;
  validation.borderColor = validation.backgroundColor = colour("--accent");
  training.borderColor = training.backgroundColor = colour("--training");
  for (const scale of [options.scales.x, options.scales.y]) {
    scale.grid = {color: colour("--line"), borderColor: colour("--line")};
    scale.ticks.color = scale.title.color = colour("--soft");
  }
  options.plugins.legend.labels.color = colour("--soft");
}

function drawChart(job) {
  const points = (losses) => losses.filter((p) => p[1] !== null).map(([x, y]) => ({x, y}));
  const validation = points(job.validation_loss), training = points(job.training_loss);
  const count = validation.length + training.length;
  byId("no-loss").hidden = count > 0;
  byId("chart").parentElement.hidden = count === 0;
  byId("chart").dataset.points = String(count);
  if (count === 0) return;
  const configuration = chart ?? chartConfiguration();
  paint(configuration);
  configuration.data.datasets[0].data = validation;
  configuration.data.datasets[1].data = training;
  configuration.options.scales.x.suggestedMax = Math.min(job.rounds, 5);
  if (chart === null) {
    chart = new Chart(byId("chart"), configuration);
  } else {
    chart.resize();
    chart.update("none");
  }
  const newest = last(validation);
  const summary = newest ? `validation ${loss(newest.y)} after ${number(newest.x)} rounds` : "";
  setText("chart-note", summary);
  byId("chart").setAttribute("aria-label", "Loss over rounds. " + summary);
}

function rigRow(rig, now) {
  const badge = document.createElement("span");
  setBadge(badge, rig.state);
  const state = cell("");
  state.append(badge);
  if (rig.reason) {
    const reason = document.createElement("small");
    reason.textContent = rig.reason;
    state.append(reason);
  }
  const name = cell(rig.rig);
  name.title = rig.key;
  return row(name, cell(rig.account), state,
             cell(rig.last_seen ? duration(now - rig.last_seen) + " ago" : "never"),
             cell(number(rig.tokens_per_second), "n"), cell(number(rig.accepted), "n"),
             cell(number(rig.rejected), "n"), cell(credits(rig.earned), "n"));
}

function drawRigs(rigs, now) {
  const order = {active: 0, away: 1};
  const sorted = [...rigs].sort((a, b) => (order[a.state] ?? 2) - (order[b.state] ?? 2) ||
                                a.account.localeCompare(b.account) || a.rig.localeCompare(b.rig));
  const active = rigs.filter((rig) => rig.state === "active").length;
  const hidden = Math.max(0, rigs.length - maxRigRows);
  setText("rigs-note", rigs.length === 0 ? "" : `${number(active)} of ${number(rigs.length)} active` +
          (hidden > 0 ? `, ${number(hidden)} not shown` : ""));
  byId("rigs-table").hidden = rigs.length === 0;
  byId("no-rigs").hidden = rigs.length > 0;
  byId("rigs").replaceChildren(...sorted.slice(0, maxRigRows).map((rig) => rigRow(rig, now)));
}

function drawAccounts(jobs, current, rigs) {
  const accounts = new Set([...rigs.map((rig) => rig.account), ...jobs.flatMap((job) => Object.keys(job.earned))]);
  const rows = [...accounts].sort().map((account) => {
    const total = jobs.reduce((sum, job) => sum + BigInt(job.earned[account] ?? "0"), 0n);
    const count = rigs.filter((rig) => rig.account === account).length;
    return row(cell(account), cell(number(count), "n"), cell(credits(current.earned[account] ?? "0"), "n"),
               cell(credits(total.toString()), "n"));
  });
  byId("accounts-card").hidden = rows.length === 0;
  byId("accounts").replaceChildren(...rows);
}

function draw(status) {
  lastStatus = status;
  const {jobs, rigs} = status;
  byId("empty").hidden = jobs.length > 0;
  byId("content").hidden = jobs.length === 0;
  setText("software", status.software);
  setText("traffic", `received ${bytes(status.bytes_up)} · sent ${bytes(status.bytes_down)}`);
  const byAge = [...jobs].reverse().sort((a, b) => b.created - a.created);
  const current = jobs.find((job) => job.job === chosenJob) ?? byAge.find((job) => job.state === "running") ?? byAge[0];
  document.title = current ? `${current.job} · round ${current.rounds_done}/${current.rounds} · gradpool` : "gradpool";
  drawJobPicker(jobs, current);
  if (!current) return;
  drawJob(current);
  drawChart(current);
  drawRigs(rigs, status.time);
  drawAccounts(jobs, current, rigs);
}

// ---- the loop ----

function showPulse(status) {
  const lost = lostSince !== null;
  byId("pulse").className = lost ? "lost" : "live";
  document.body.classList.toggle("lost", lost);
  setText("pulse-text", lost ? "not answering" : "updated " + clock(new Date()));
  const alarm = lost ? "Pool not answering since " + clock(lostSince) + "."
                     : status.failure ? "The pool's own work fails: " + status.failure : "";
  setText("alarm", alarm);
  byId("alarm").hidden = alarm === "";
}

async function fetchStatus() {
  const response = await fetch("status.json", {cache: "no-store", signal: AbortSignal.timeout(5000)});
  if (!response.ok) throw new Error("HTTP " + response.status);
  return response.json();
}

async function refresh() {
  let status = null;
  try {
    status = await fetchStatus();
    lostSince = null;
  } catch {
    lostSince ??= new Date();
  }
  setTimeout(refresh, refreshMilliseconds);
  showPulse(status);
  if (status !== null) draw(status);
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => lastStatus && draw(lastStatus));
refresh();
