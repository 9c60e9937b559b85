// Violations: what the panels offer leads to the node logs at that time.

function anomalies() {
  for (const button of document.querySelectorAll("[data-logs-at]")) {
    button.addEventListener("click", () => logsAt(Number(button.dataset.logsAt)));
  }
}
