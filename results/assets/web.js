// The lists of the browser of runs: searched as one types, walked by keys, kept fresh. All of it is an addition:
// without script the same addresses answer the same.
"use strict";
const root = document.documentElement;
const fault = (text) => root.setAttribute("data-errors", (root.getAttribute("data-errors") || "") + text + " | ");
window.addEventListener("error", (e) => fault(String(e.message)));
window.addEventListener("unhandledrejection", (e) => fault(String(e.reason)));
document.addEventListener("securitypolicyviolation", (e) => fault("policy: " + e.violatedDirective));
root.setAttribute("data-script", "");

const $ = (id) => document.getElementById(id);
const form = $("filters"), compare = $("compare"), only = $("only");
const chosen = []; // at most two, the latest ones; kept while the list is searched
let at = -1;

const rows = () => [...document.querySelectorAll("#listed tbody tr")];

function address() {
  const fields = new URLSearchParams();
  for (const [name, value] of new FormData(form)) if (value) fields.set(name, value);
  const text = fields.toString();
  return form.getAttribute("action") + (text ? "?" + text : "");
}

let asked = 0;
async function show(url) {
  const mine = ++asked;
  const answer = await fetch(url, { credentials: "same-origin" }).catch(() => null); // the server may be gone
  if (!answer || mine !== asked) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("listed");
  if (!fresh || mine !== asked) return;
  const held = document.activeElement && document.activeElement.closest("#listed tr");
  const index = held ? rows().indexOf(held) : -1;
  const field = held ? document.activeElement.className || document.activeElement.name : "";
  $("listed").replaceChildren(...fresh.childNodes);
  for (const box of document.querySelectorAll("#listed input[name=r]")) box.checked = chosen.includes(box.value);
  if (index >= 0 && rows()[index]) {
    const again = [...rows()[index].querySelectorAll("a, input")].find((x) => (x.className || x.name) === field);
    if (again) again.focus();
  }
  mark(Math.min(at, rows().length - 1), false);
}

function choose(box) {
  const known = chosen.indexOf(box.value);
  if (box.checked && known < 0) chosen.push(box.value);
  if (!box.checked && known >= 0) chosen.splice(known, 1);
  while (chosen.length > 2) {
    const gone = chosen.shift();
    for (const other of document.querySelectorAll("#listed input[name=r]")) if (other.value === gone) other.checked = false;
  }
  tell();
}

function tell() {
  const button = compare.querySelector("button");
  button.disabled = chosen.length !== 2;
  button.textContent = chosen.length === 1 ? "Choose one more" : "Compare two";
}

const compareAddress = () => "/compare?" + chosen.map((path) => "r=" + encodeURIComponent(path)).join("&");

function mark(index, scroll = true) {
  const all = rows();
  if (at >= 0 && all[at]) all[at].classList.remove("at");
  at = index;
  for (const row of all) row.classList.toggle("at", row === all[at]);
  if (at >= 0 && all[at] && scroll) {
    all[at].querySelector(".open").focus({ preventScroll: true });
    all[at].scrollIntoView({ block: "nearest" });
  }
}

if (form) {
  let timer = 0;
  const later = (ms) => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      if (!$("listed")) return location.assign(address());
      history.replaceState(null, "", address());
      show(address());
    }, ms);
  };
  form.addEventListener("input", (e) => later(e.target.name === "q" ? 180 : 0));
  form.addEventListener("change", (e) => e.target.classList.toggle("set", e.target.tagName === "SELECT" && e.target.value !== ""));
  form.addEventListener("submit", (e) => { e.preventDefault(); later(0); });
}

if (compare) {
  compare.addEventListener("submit", (e) => { e.preventDefault(); if (chosen.length === 2) location.assign(compareAddress()); });
  document.addEventListener("change", (e) => { if (e.target.name === "r") choose(e.target); });
  for (const box of document.querySelectorAll("#listed input[name=r]:checked")) choose(box);
  tell();
  setInterval(() => { // what goes on changes
    if (!document.hidden && document.querySelector("tr[data-state=running]")) show(location.pathname + location.search);
  }, 5000);
}

if (only) {
  const set = () => root.classList.toggle("only", only.checked);
  only.addEventListener("change", set);
  set();
}

document.addEventListener("keydown", (e) => {
  if (e.ctrlKey || e.metaKey || e.altKey) return;
  const typing = /^(input|select|textarea)$/i.test(e.target.tagName) && e.target.type !== "checkbox";
  if (e.key === "Escape" && typing) return e.target.blur();
  if (typing) return;
  const search = form && form.elements.q;
  if (e.key === "/" && search) { e.preventDefault(); search.focus(); search.select(); }
  if (!$("listed")) return;
  const last = rows().length - 1;
  if (e.key === "j" && last >= 0) mark(Math.min(at + 1, last));
  if (e.key === "k" && last >= 0) mark(Math.max(at - 1, 0));
  if (e.key === "x" && at >= 0) { const box = rows()[at].querySelector("input[name=r]"); box.checked = !box.checked; choose(box); }
  if (e.key === "c" && chosen.length === 2) location.assign(compareAddress());
});
root.setAttribute("data-ready", "true");
