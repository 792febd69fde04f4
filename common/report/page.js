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
