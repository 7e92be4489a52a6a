// What Gradio has no way for: the conversations in this browser's storage, one entry each, so that two tabs never overwrite one
// another's; the buttons and the forms in the conversation; files; being offline; keys.
window.thousand = (() => {
  const PREFIX = "thousand.conversation.";
  const MOST_BYTES = 1_500_000;
  const $ = (selector, from = document) => from.querySelector(selector);
  let shelf = null; // draws the list of conversations
  let log = null; // {element, trigger} of the conversation
  let form = null; // the one that is open in it
  let waiting = 0; // until what another tab did is shown
  let held = null; // the conversation of this tab, as it was saved last
  const gone = new Set(); // what another tab deleted

  const parsed = (text) => { try { return JSON.parse(text); } catch { return null; } };
  const load = (id) => parsed(localStorage.getItem(PREFIX + id));
  const all = () => Object.keys(localStorage).filter((key) => key.startsWith(PREFIX))
    .map((key) => parsed(localStorage.getItem(key))).filter(Boolean).sort((a, b) => b.changed - a.changed);
  const branch = (one) => {
    const found = [];
    for (let at = one.messages[one.leaf]; at; at = one.messages[at.parent]) found.unshift(at);
    return found;
  };
  const title = (one) => {
    const first = branch(one).find((node) => node.role === "user") ?? Object.values(one.messages).find((node) => node.role === "user");
    return one.name || (first?.content.trim().replace(/\s+/g, " ").slice(0, 60) ?? "New conversation");
  };
  const busy = () => Boolean($("#talk .live"));
  const say = (text) => { $("#notice").textContent = text; };

  // What another tab added to the same conversation stays; of an answer, the longer one is the newer one.
  const newer = (mine, other) => !other ? mine : (other.tokens ?? 0) > (mine.tokens ?? 0) ? other : { ...other, ...mine };
  const merged = (mine) => {
    const other = load(mine.id);
    if (!other) return mine;
    const messages = { ...other.messages };
    for (const [id, node] of Object.entries(mine.messages)) messages[id] = newer(node, other.messages[id]);
    return { ...mine, messages, name: other.name ?? mine.name, sent: other.sent || mine.sent };
  };
  // Opening a conversation, or seeing what another tab did, is no change: else two tabs would answer one another for ever.
  const changed = (one, before) => {
    const other = load(one.id);
    const leaf = before?.id === one.id ? before.leaf : other?.leaf;
    return !other || one.leaf !== leaf || JSON.stringify([one.messages, one.sent]) !== JSON.stringify([other.messages, other.sent]);
  };
  const put = (one) => {
    try {
      localStorage.setItem(PREFIX + one.id, JSON.stringify(one));
      return true;
    } catch {
      say("This browser's storage is full: export conversations you want to keep, and delete some. The latest messages are not saved.");
      return false;
    }
  };
  const save = (mine) => {
    if (gone.has(mine.id)) return say("This conversation was deleted in another tab, so nothing more of it is saved.");
    const one = merged(mine), before = held;
    held = mine;
    sessionStorage.setItem("thousand.open", mine.id);
    if (Object.keys(one.messages).length && changed(one, before)) put({ ...one, changed: Date.now() });
    shelf?.draw();
  };
  const opened = () => load(sessionStorage.getItem("thousand.open"));

  // Files
  const line = (one) => JSON.stringify({ id: one.id, messages: branch(one).map(({ role, content }) => ({ role, content })) });
  const download = (many) => {
    const lines = many.filter((one) => one.leaf).map(line);
    if (!lines.length) return say("There is no conversation to export yet.");
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([lines.join("\n") + "\n"], { type: "application/jsonl" }));
    link.download = lines.length === 1 ? "conversation.jsonl" : "conversations.jsonl";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    say(lines.length === 1 ? "Exported one conversation." : `Exported ${lines.length} conversations.`);
  };
  const bring = (many) => {
    if (!many?.length) return;
    const now = Date.now();
    if (many.every((one, at) => put({ ...one, changed: now - at }))) say(`Imported ${many.length === 1 ? "one conversation" : many.length + " conversations"}.`);
    shelf?.draw();
  };

  // The list of conversations
  const onShelf = (element, trigger) => {
    const list = $("ul", element), file = $("input[type=file]", element);
    const draw = () => {
      const open = sessionStorage.getItem("thousand.open");
      list.replaceChildren(...all().map((one) => {
        const item = document.createElement("li"), button = document.createElement("button");
        button.textContent = title(one);
        button.type = "button";
        button.onclick = () => trigger("select", one);
        if (one.id === open) button.setAttribute("aria-current", "true");
        item.append(button);
        return item;
      }));
    };
    const acts = {
      new: () => trigger("select", null),
      rename: () => {
        const one = opened();
        const name = one && prompt("What shall this conversation be called?", title(one));
        if (name?.trim() && put({ ...load(one.id), name: name.trim().slice(0, 100) })) draw();
      },
      delete: () => {
        const one = opened();
        if (!one) return say("This conversation is not saved: nothing was said in it.");
        const also = one.sent ? " What the server keeps of it is deleted too." : "";
        if (!confirm(`Delete “${title(one)}” with all its versions?${also}`)) return;
        localStorage.removeItem(PREFIX + one.id);
        if (one.sent) trigger("clear", { id: one.id });
        trigger("select", null);
        draw();
      },
      export: () => { const one = opened(); download(one ? [one] : []); },
      "export-all": () => download(all()),
      import: () => file.click(),
    };
    element.addEventListener("click", (event) => acts[event.target.closest("[data-do]")?.dataset.do]?.());
    file.onchange = async () => {
      const [chosen] = file.files;
      file.value = "";
      if (!chosen) return;
      if (chosen.size > MOST_BYTES) return say(`${chosen.name} is too large: a file of up to ${MOST_BYTES / 1e6} MB can be imported. Split it.`);
      trigger("upload", { name: chosen.name, text: await chosen.text() });
    };
    $("details", element).open = innerWidth > 800;
    addEventListener("storage", (event) => {
      if (event.newValue === null && event.key?.startsWith(PREFIX)) {
        gone.add(event.key.slice(PREFIX.length));
        localStorage.removeItem(event.key); // an answer in the making may have been saved here since
      }
      draw();
      if (event.key !== PREFIX + held?.id || busy()) return;
      clearTimeout(waiting);
      waiting = setTimeout(() => { // another tab writes as often as an answer grows
        if (!busy()) trigger("select", load(held.id) && { ...merged(held), leaf: held.leaf });
      }, 300);
    });
    shelf = { draw };
    draw();
  };

  // The conversation: its buttons, and one form at a time, which stays as it is when the conversation is drawn anew
  const FORMS = {
    edit: { label: "Your question", text: true, send: "Ask this instead", event: "edit" },
    dislike: { label: "What is wrong with it? (may stay empty)", text: false, send: "Send", event: "like" },
    wanted: { label: "The answer you wanted", text: true, consent: true, send: "Send", event: "like" },
  };
  const close = () => {
    const opener = $(`[data-do=${form.kind}]`, form.article() ?? document);
    form.node.remove();
    form = null;
    opener?.focus();
  };
  const openForm = (kind, id) => {
    form?.node.remove();
    const article = () => $(`article[data-id="${id}"]`, log.element);
    const wanted = FORMS[kind], node = $("#form").content.firstElementChild.cloneNode(true);
    const box = $("textarea", node), check = $("input", node);
    $("label span", node).textContent = wanted.label;
    box.value = !wanted.text ? "" : kind === "edit" ? article().dataset.said : article().dataset.text;
    box.required = wanted.text;
    $(".consent", node).hidden = !wanted.consent;
    check.required = Boolean(wanted.consent);
    $("[type=submit]", node).textContent = wanted.send;
    node.onsubmit = (event) => {
      event.preventDefault();
      if (offline()) return;
      const text = box.value.trim();
      const told = { edit: { text }, dislike: { verdict: "dislike", reason: text || null }, wanted: { wanted: text, consent: check.checked } };
      close();
      log.trigger(wanted.event, { message: id, ...told[kind] });
    };
    node.onkeydown = (event) => {
      if (event.key === "Escape") { event.stopPropagation(); close(); }
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) node.requestSubmit();
    };
    $("[data-cancel]", node).onclick = close;
    form = { kind, node, article };
    article().append(node);
    box.focus();
    box.scrollTop = 0;
  };
  const copy = async (text) => {
    try {
      await navigator.clipboard.writeText(text);
    } catch { // not over plain HTTP from another machine
      const box = document.body.appendChild(document.createElement("textarea"));
      box.value = text;
      box.select();
      document.execCommand("copy");
      box.remove();
    }
    say("Copied.");
  };
  const onLog = (element, trigger, props, watch) => {
    log = { element, trigger };
    const acts = {
      copy: (id, article) => copy(article.dataset.said),
      previous: (id) => trigger("select", { message: id, step: -1 }),
      next: (id) => trigger("select", { message: id, step: 1 }),
      retry: (id) => offline() || trigger("retry", { message: id }),
      like: (id) => offline() || trigger("like", { message: id, verdict: "like" }),
    };
    element.addEventListener("click", (event) => {
      const act = event.target.closest("[data-do]")?.dataset.do, article = event.target.closest("article");
      if (!act) return;
      if (busy() && act !== "copy") return say("An answer is being written; stop it first, or wait.");
      if (FORMS[act]) openForm(act, article.dataset.id);
      else acts[act]?.(article.dataset.id, article);
    });
    watch("value", () => {
      const article = form?.article();
      if (article) article.append(form.node);
      else form = null;
    });
  };
  const failed = () => {
    $("#talk .live")?.classList.remove("live");
    say(navigator.onLine ? "The connection to the server broke off; what was answered so far is saved. Reload the page, then try again." : "You are offline: the answer broke off, and what came of it is saved.");
    const update = (props) => ({ __type__: "update", ...props });
    return [update({}), update({}), update({}), update({ visible: true }), update({ visible: false })];
  };
  const follow = () => { if (innerHeight + scrollY >= document.documentElement.scrollHeight - 200) scrollTo(0, document.documentElement.scrollHeight); };

  // Offline
  const offline = () => {
    if (navigator.onLine) return false;
    say("You are offline: nothing was sent, and nothing is lost. Try again when the connection is back.");
    return true;
  };
  addEventListener("offline", () => say("You are offline. Conversations stay readable; asking works again when the connection is back."));
  addEventListener("online", () => say("The connection is back."));
  const isSend = (event) => event.type === "click" ? event.target.closest?.("#send") : event.target.closest?.("#box") && event.key === "Enter" && !event.shiftKey;
  for (const type of ["keydown", "click"]) document.addEventListener(type, (event) => {
    if (isSend(event) && offline()) { event.preventDefault(); event.stopImmediatePropagation(); }
  }, true);

  // Keys
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && busy()) $("#stop button, button#stop")?.click();
    if (!event.altKey || event.ctrlKey || event.metaKey) return;
    const act = { KeyM: () => $("#box textarea").focus(), KeyN: () => $("[data-do=new]").click() }[event.code];
    if (act) { event.preventDefault(); act(); }
  });

  // For screen readers: Gradio's notices are a button with a button in it
  new MutationObserver(() => {
    for (const head of document.querySelectorAll(".toast-header[role]")) for (const name of ["role", "tabindex"]) head.removeAttribute(name);
  }).observe(document, { childList: true, subtree: true });

  return { save, opened, bring, onShelf, onLog, failed, follow, say };
})();
