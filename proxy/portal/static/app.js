// What every page does with a script, and does without one as well: a form is sent once, and what went wrong
// is where the reader is.
"use strict";

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.dataset.sent) {
    event.preventDefault();
    return;
  }
  form.dataset.sent = "yes";
  // A page that comes back from the browser's own memory can be sent again.
  addEventListener("pageshow", () => delete form.dataset.sent, { once: true });
});

const wrong = document.querySelector("[aria-invalid=true]") || document.querySelector(".notice.bad");
if (wrong) {
  if (!wrong.matches("input, textarea, select")) wrong.tabIndex = -1;
  wrong.focus();
}
