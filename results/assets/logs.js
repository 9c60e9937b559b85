// Node logs follow the selected time: each goes to the last lines that were there by then, and marks them.

const logTimes = new Map(); // a log -> its chunks that have a time, in order
let logTime = null;

function logs() {
  const all = [...document.querySelectorAll("details.log")];
  for (const log of all) {
    logTimes.set(log, [...log.querySelectorAll(".chunk[data-t]")].map((chunk) => ({ t: Number(chunk.dataset.t), chunk })));
    log.addEventListener("toggle", () => log.open && logTime !== null && place(log));
  }
  for (const button of document.querySelectorAll("[data-logs]")) {
    button.addEventListener("click", () => all.forEach((log) => (log.open = button.dataset.logs === "open")));
  }
  document.addEventListener("splitbrain:time", (event) => {
    logTime = event.detail.seconds;
    if (logTime === null || !all.length) return;
    $("log-time").textContent = `at ${logTime.toFixed(3)} s`;
    all.forEach(place);
  });
}

// Mark and scroll to the last chunk that was there by the selected time; the page itself does not move.
function place(log) {
  const times = logTimes.get(log), later = times.findIndex(({ t }) => t > logTime);
  const at = (later < 0 ? times.length : later) - 1;
  for (const chosen of log.querySelectorAll(".chosen")) chosen.classList.remove("chosen");
  const now = log.querySelector(".now");
  if (at < 0) return void (now.textContent = times.length ? "nothing written yet" : "");
  const { t, chunk } = times[at];
  chunk.classList.add("chosen");
  now.textContent = `last written by ${t.toFixed(1)} s`;
  const pre = log.querySelector("pre");
  pre.scrollTop = chunk.offsetTop - Math.max(0, pre.clientHeight - Math.min(chunk.offsetHeight, pre.clientHeight)) / 2;
}

// Select a time and go to the logs, unfolding those that have a line near it.
function logsAt(seconds) {
  select(seconds);
  logTime = seconds;
  for (const [log, times] of logTimes) if (times.some(({ t }) => Math.abs(t - seconds) <= 5)) log.open = true;
  for (const log of logTimes.keys()) place(log);
  $("logs").scrollIntoView({ block: "start" });
}
