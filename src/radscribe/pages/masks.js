"use strict";

// Finding masks: one chip per observation and study, and one switch for all of them.
function show(button, on) {
  button.setAttribute("aria-pressed", String(on));
  for (const mask of button.closest(".film").querySelectorAll(".mask")) {
    if (mask.dataset.observation === button.dataset.observation) mask.classList.toggle("off", !on);
  }
}
const chips = [...document.querySelectorAll(".legend .chip")];
const all = document.getElementById("all-masks");
const pressed = (button) => button.getAttribute("aria-pressed") === "true";
for (const chip of chips) {
  chip.addEventListener("click", () => {
    show(chip, !pressed(chip));
    all.setAttribute("aria-pressed", String(chips.some(pressed)));
  });
}
all.hidden = chips.length === 0;
all.addEventListener("click", () => {
  const on = !pressed(all);
  all.setAttribute("aria-pressed", String(on));
  for (const chip of chips) show(chip, on);
});
