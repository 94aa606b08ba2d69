"use strict";

// The divider of a stage: pointer (mouse, pen, touch) and keyboard set one share of its width.

const KEYS = {
  ArrowLeft: -2, ArrowDown: -2, ArrowRight: 2, ArrowUp: 2,
  PageDown: -10, PageUp: 10, Home: -100, End: 100,
};

const SLOP = 8; // px that a finger may stray in a tap

function clamp(value, low, high) {
  return Math.min(high, Math.max(low, value));
}

function tell(stage) {
  const divider = stage.querySelector(".divider");
  const { left, right } = stage.dataset;
  const share = Math.round(Number(divider.dataset.share ?? 50));
  divider.setAttribute("aria-valuenow", share);
  divider.setAttribute("aria-valuetext", `${left} left, ${right} right of ${share} %`);
  stage.querySelector(".side.left").textContent = left;
  stage.querySelector(".side.right").textContent = right;
}

function split(stage, share) {
  const divider = stage.querySelector(".divider");
  divider.dataset.share = clamp(share, 0, 100);
  stage.style.setProperty("--split", `${divider.dataset.share}%`);
  tell(stage);
}

function follow(stage, event) {
  const box = stage.getBoundingClientRect();
  split(stage, (100 * (event.clientX - box.left)) / box.width);
}

function setUpStage(stage) {
  const divider = stage.querySelector(".divider");
  let waiting = null; // where a finger went down that may yet be about to scroll the page
  const strayed = (event) => Math.hypot(event.clientX - waiting.x, event.clientY - waiting.y);
  const across = (event) => Math.abs(event.clientX - waiting.x) > Math.abs(event.clientY - waiting.y);
  stage.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    stage.setPointerCapture(event.pointerId);
    waiting = event.pointerType === "touch" ? { x: event.clientX, y: event.clientY } : null;
    if (!waiting) follow(stage, event);
  });
  stage.addEventListener("pointermove", (event) => {
    if (!stage.hasPointerCapture(event.pointerId)) return;
    if (waiting && strayed(event) > SLOP && across(event)) waiting = null;
    if (!waiting) follow(stage, event);
  });
  stage.addEventListener("pointerup", (event) => {
    if (!stage.hasPointerCapture(event.pointerId)) return;
    if (!waiting || strayed(event) <= SLOP) follow(stage, event);
  });
  divider.addEventListener("keydown", (event) => {
    if (!(event.key in KEYS)) return;
    event.preventDefault();
    split(stage, Number(divider.dataset.share ?? 50) + KEYS[event.key]);
  });
}

function setUpToolbar(stages) {
  for (const choice of document.querySelectorAll('input[name="pair"]')) {
    const compare = () => {
      if (!choice.checked) return;
      for (const stage of stages) {
        [stage.dataset.left, stage.dataset.right] = choice.value.split(" ");
        tell(stage);
      }
    };
    choice.addEventListener("change", compare);
    compare(); // a browser may restore the choice of an earlier visit
  }
  const opacity = document.getElementById("opacity");
  const fade = () => document.documentElement.style.setProperty("--opacity", opacity.value / 100);
  opacity?.addEventListener("input", fade);
  if (opacity) fade();
}

// One moment of training, pointed at in any chart, is shown in all of them.

const MOMENT = { step: 0, seconds: 1, loss: 2, validationLoss: 3, meanIu: 4 };

function nearest(rows, column, value) {
  return rows.reduce((best, row) =>
    Math.abs(row[column] - value) < Math.abs(best[column] - value) ? row : best);
}

function clock(seconds) {
  const [h, m, s] = [seconds / 3600, (seconds / 60) % 60, seconds % 60].map(Math.floor);
  return h ? `${h} h ${m} min` : m ? `${m} min ${s} s` : `${seconds.toPrecision(2)} s`;
}

function describe(row) {
  const parts = [`step <b>${Math.round(row[MOMENT.step])}</b>`, `<b>${clock(row[MOMENT.seconds])}</b>`];
  parts.push(`training loss <b>${row[MOMENT.loss]}</b>`);
  if (row[MOMENT.validationLoss] !== null) parts.push(`validation loss <b>${row[MOMENT.validationLoss]}</b>`);
  if (row[MOMENT.meanIu] !== null) parts.push(`mean IU <b>${row[MOMENT.meanIu]}</b>`);
  return parts.join(" · ");
}

function setUpCharts() {
  const data = document.getElementById("readings");
  if (!data) return;
  const rows = JSON.parse(data.textContent);
  const reading = document.getElementById("reading");
  const idle = reading.innerHTML;
  const plots = [...document.querySelectorAll(".plot")].map((plot) => {
    const cursor = plot.appendChild(Object.assign(document.createElement("i"), { className: "cursor", hidden: true }));
    return { plot, cursor, column: MOMENT[plot.dataset.column], high: Number(plot.dataset.high) };
  });
  const show = (row) => {
    for (const { cursor, column, high } of plots) {
      cursor.hidden = row === null;
      if (row) cursor.style.left = `${(100 * row[column]) / high}%`;
    }
    reading.innerHTML = row ? describe(row) : idle;
  };
  for (const { plot, column, high } of plots) {
    plot.addEventListener("pointermove", (event) => {
      const box = plot.getBoundingClientRect();
      show(nearest(rows, column, (high * (event.clientX - box.left)) / box.width));
    });
    plot.addEventListener("pointerleave", () => show(null));
  }
}

// The confusion matrix, a table or a picture, read cell by cell.

function sentence({ names, counts }, i, j) {
  const sum = counts[i].reduce((a, b) => a + b, 0);
  const share = sum ? `${((100 * counts[i][j]) / sum).toPrecision(3)} % of its px` : "class absent";
  const parts = [`${names[i]} → ${names[j]}`, `: ${counts[i][j].toLocaleString("en")} px, ${share}`];
  const [pair, numbers] = parts.map((text) => document.createTextNode(text));
  const bold = document.createElement("b");
  bold.append(pair);
  return [bold, numbers];
}

function setUpMatrix() {
  const data = document.getElementById("counts");
  if (!data) return;
  const table = JSON.parse(data.textContent);
  const matrix = document.querySelector("[data-matrix]");
  const readout = document.querySelector("#confusion .readout");
  const last = table.names.length - 1;
  let cell = [0, 0];
  const show = (i, j) => {
    cell = [clamp(i, 0, last), clamp(j, 0, last)];
    readout.replaceChildren(...sentence(table, ...cell));
    mark(matrix, ...cell);
  };
  const point = (event) => {
    const place = matrix.tagName === "IMG" ? placeInPicture(matrix, last + 1, event) : placeInTable(event);
    if (place) show(...place);
  };
  matrix.addEventListener("pointermove", point);
  matrix.addEventListener("pointerdown", point);
  matrix.addEventListener("keydown", (event) => {
    const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    const move = moves[event.key];
    if (!move) return;
    event.preventDefault();
    show(cell[0] + move[0], cell[1] + move[1]);
  });
}

function placeInPicture(picture, num, event) {
  const box = picture.getBoundingClientRect();
  return [(event.clientY - box.top) / box.height, (event.clientX - box.left) / box.width]
    .map((share) => Math.floor(share * num));
}

function mark(matrix, i, j) {
  matrix.querySelector(".here")?.classList.remove("here");
  matrix.tBodies?.[0].rows[i].cells[j + 1].classList.add("here");
}

function placeInTable(event) {
  const cell = event.target.closest("td");
  return cell && [cell.parentElement.sectionRowIndex, cell.cellIndex - 1];
}

const stages = [...document.querySelectorAll(".stage")];
stages.forEach(setUpStage);
setUpToolbar(stages);
setUpCharts();
setUpMatrix();
