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

document.querySelector("[aria-invalid=true]")?.focus();

// What is under way is looked at again by itself; without a script by a click.
document.querySelectorAll("a[data-again]").forEach((link) => {
  setTimeout(() => location.replace(link.href.split("#")[0]), 1000 * link.dataset.again);
});

// Text that is meant to be taken away has a button for that.
document.querySelectorAll("[data-copy]").forEach((text) => {
  const button = Object.assign(document.createElement("button"), { type: "button", className: "quiet", textContent: "Copy" });
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(text.textContent);
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 1500);
  });
  text.after(button);
});

// Files that are sent show how far they are. The answer is a page, and takes the place of this one.
document.querySelectorAll("form[data-upload]").forEach((form) => {
  form.addEventListener("submit", (event) => {
    if (!form.reportValidity()) return;
    event.preventDefault();
    const bar = form.querySelector("progress");
    bar.hidden = false;
    const request = new XMLHttpRequest();
    request.open("POST", form.action);
    request.upload.addEventListener("progress", (sent) => {
      if (sent.lengthComputable) bar.value = (100 * sent.loaded) / sent.total;
    });
    request.responseType = "document";
    request.addEventListener("load", () => {
      if (!request.responseXML) return form.submit();
      document.title = request.responseXML.title;
      document.getElementById("main").replaceWith(document.adoptNode(request.responseXML.getElementById("main")));
      scrollTo(0, 0);
      document.getElementById("main").focus();
    });
    request.addEventListener("error", () => form.submit());
    request.send(new FormData(form));
  });
});

// What a proposed split comes to, as it is written; without a script the server says so when it is sent.
document.querySelectorAll("form[data-split]").forEach((form) => {
  const foot = form.querySelector("[data-sum]");
  const said = foot.querySelector("output");
  // In parts of a million, because 33.3333 + 66.6667 is 100 and not 99.99999999999999.
  const parts = (text) => Math.round(Number(text.replace("%", "").replace(",", ".").trim() || 0) * 10000);
  const tell = () => {
    const ppm = [...form.querySelectorAll("[name=percent]")].reduce((sum, field) => sum + parts(field.value), 0);
    const left = 1000000 - ppm;
    const text = (part) => String(part / 10000);
    said.textContent = Number.isNaN(ppm) ? "?" : `${text(ppm)}%` + (left > 0 ? `, ${text(left)}% missing` : left < 0 ? `, ${text(-left)}% too much` : "");
    foot.classList.toggle("whole", left === 0);
  };
  foot.hidden = false;
  form.addEventListener("input", tell);
  tell();
});
