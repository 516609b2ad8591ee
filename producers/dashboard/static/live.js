"use strict";
// The newest rows of a table as they come. At most MOST stay on the page; values are set as text.
const MOST = 500;
const table = document.getElementById("rows");
const [head, body] = [table.tHead, table.tBodies[0]];
const [state, filter, pause] = ["state", "filter", "pause"].map((id) => document.getElementById(id));
let paused = false;
let waiting = [];

function shows(row) {
  row.hidden = !row.textContent.toLowerCase().includes(filter.value.toLowerCase());
}

function rowOf(values, tag) {
  const row = document.createElement("tr");
  for (const value of values) {
    const cell = document.createElement(tag);
    cell.textContent = value;
    row.append(cell);
  }
  return row;
}

function show(event) {
  if (event.why) {
    state.textContent = event.why;
    return;
  }
  head.replaceChildren(rowOf(event.columns, "th"));
  for (const values of event.rows) {
    const row = rowOf(values, "td");
    shows(row);
    body.prepend(row);
  }
  while (body.rows.length > MOST) body.lastElementChild.remove();
  state.textContent = event.skipped ? `${event.skipped} rows came too fast to be shown.` : "";
}

if (table.dataset.table) {
  const source = new EventSource(`/live/rows?table=${encodeURIComponent(table.dataset.table)}`);
  source.onmessage = (message) => {
    const event = JSON.parse(message.data);
    if (paused) waiting = [...waiting.slice(-9), event];
    else show(event);
  };
  source.onerror = () => { state.textContent = "The pages do not answer; trying again."; };
}
filter.addEventListener("input", () => { for (const row of body.rows) shows(row); });
pause.addEventListener("click", () => {
  paused = !paused;
  pause.textContent = paused ? "Go on" : "Pause";
  if (!paused) { waiting.forEach(show); waiting = []; }
});
