// Frames of all methods move together, and so does the line in the plot.
for (const figure of document.querySelectorAll(".sequence")) {
  const data = JSON.parse(figure.dataset.sequence);
  const images = figure.querySelectorAll(".tile img");
  const slider = figure.querySelector("input");
  const output = figure.querySelector("output");
  const curve = figure.querySelector("svg.curve");
  const show = () => {
    const frame = data.frames[slider.value];
    images.forEach((image, row) => { image.src = data.images[row][slider.value]; });
    output.textContent = "frame " + frame;
    if (curve) {
      const { low, high, left, right } = curve.dataset;
      const x = +left + (frame - low) / (high - low) * (right - left);
      const cursor = curve.querySelector(".cursor");
      cursor.setAttribute("x1", x);
      cursor.setAttribute("x2", x);
    }
  };
  slider.addEventListener("input", show);
  show();
}
// A click on a head sorts by that column; undefined numbers stay last.
for (const head of document.querySelectorAll("th")) {
  head.addEventListener("click", () => {
    const table = head.closest("table");
    const rows = [...table.tBodies[0].rows];
    const up = head.dataset.up !== "yes";
    const key = (row) => row.cells[head.cellIndex].textContent;
    rows.sort((a, b) => {
      const [x, y] = [parseFloat(key(a)), parseFloat(key(b))];
      if (isNaN(x) && isNaN(y)) return up ? key(a).localeCompare(key(b)) : key(b).localeCompare(key(a));
      if (isNaN(x) || isNaN(y)) return isNaN(x) ? 1 : -1;
      return up ? x - y : y - x;
    });
    head.dataset.up = up ? "yes" : "no";
    table.tBodies[0].append(...rows);
  });
}
