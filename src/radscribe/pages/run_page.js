// When the pointer is on a sentence, its partner in the other text is marked too.
for (const texts of document.querySelectorAll(".texts")) {
  const columns = [...texts.querySelectorAll("section")].map((section) => [...section.querySelectorAll("li")]);
  columns.forEach((sentences, side) => {
    for (const sentence of sentences) {
      const partner = columns[1 - side][sentence.dataset.partner];
      if (!partner) continue;
      for (const [event, on] of [["pointerenter", true], ["pointerleave", false]]) {
        sentence.addEventListener(event, () => {
          sentence.classList.toggle("pointed", on);
          partner.classList.toggle("pointed", on);
        });
      }
    }
  });
}
