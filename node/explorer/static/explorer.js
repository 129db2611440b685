// Two conveniences; every page works without them.
"use strict";

// An image can be dropped anywhere on the audit form, which is then sent.
for (const form of document.querySelectorAll("form[data-drop]")) {
  const input = form.querySelector("input[type=file]");
  const over = (event) => {
    event.preventDefault();
    form.classList.add("over");
  };
  form.addEventListener("dragenter", over);
  form.addEventListener("dragover", over);
  form.addEventListener("dragleave", () => form.classList.remove("over"));
  form.addEventListener("drop", (event) => {
    event.preventDefault();
    form.classList.remove("over");
    if (event.dataTransfer.files.length > 0) {
      input.files = event.dataTransfer.files;
      form.requestSubmit();
    }
  });
  input.addEventListener("change", () => {
    if (input.files.length > 0) form.requestSubmit();
  });
}

// The list of blocks follows the tip: a stream starts with the present one, so none is missed.
if (document.querySelector("[data-live]")) {
  const events = new EventSource("/v1/events");
  const refresh = async () => {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = page.getElementById("live");
    if (fresh) document.getElementById("live").replaceWith(fresh);
  };
  events.addEventListener("tip", (event) => {
    const { hash } = JSON.parse(event.data);
    if (document.getElementById("live").dataset.live !== hash) refresh().catch(() => {});
  });
  window.addEventListener("pagehide", () => events.close());
}
