// What people and models write is set as text, never as HTML.
"use strict";

const LANGUAGES = [
  "Amharic", "Arabic", "Bengali", "Chinese", "English", "French", "German", "Gujarati", "Hausa", "Hindi", "Igbo",
  "Indonesian", "Japanese", "Kannada", "Korean", "Malayalam", "Marathi", "Persian", "Portuguese", "Punjabi", "Russian",
  "Spanish", "Swahili", "Tamil", "Telugu", "Thai", "Turkish", "Ukrainian", "Urdu", "Vietnamese", "Yoruba", "Zulu",
];

const $ = (id) => document.getElementById(id);
const [page, turns, message] = [document.querySelector("main"), $("turns"), $("message")];

let models = []; // {id, chats, messages}: what each of them was asked and has answered
let writing = null; // the AbortController of the answers that are being written

function made(tag, className, text = "") {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  return element;
}

function headers() {
  const key = $("key").value.trim();
  return key ? { "Content-Type": "application/json", Authorization: `Bearer ${key}` } : { "Content-Type": "application/json" };
}

/** What the server answers, or an Error with its own words. */
async function asked(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { ...options, headers: headers() });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server cannot be reached.");
  }
  if (answer.ok) return answer;
  if (answer.status === 401) {
    settings(true);
    $("key").focus();
    throw new Error("This server asks for an API key: it goes into the settings above.");
  }
  const body = await answer.json().catch(() => null);
  throw new Error(body?.error?.message ?? `The server answered with status ${answer.status}.`);
}

async function loadModels() {
  const found = await (await asked("v1/models")).json();
  models = found.data.map(({ id, chats }) => models.find((model) => model.id === id) ?? { id, chats, messages: [] });
  $("models").textContent = models.map((model) => model.id).join(" and ");
  const single = models.filter((model) => !model.chats).map((model) => model.id);
  $("turns-note").textContent = single.length
    ? `${single.join(" and ")} answers each message by itself and does not know those before.`
    : "";
}

/** The objects of a stream of server-sent events. */
async function* events(answer) {
  let text = "";
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (text + value).split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      if (block.startsWith("data: ") && block !== "data: [DONE]") yield JSON.parse(block.slice(6));
    }
  }
}

/** Writes a model's answer into its box as it comes. */
async function answer(model, prompt, box, signal) {
  const [text, note] = [box.querySelector(".text"), box.querySelector(".note")];
  const messages = model.chats ? [...model.messages, { role: "user", content: prompt }] : [{ role: "user", content: prompt }];
  const [began, body] = [performance.now(), { model: model.id, messages, stream: true, stream_options: { include_usage: true } }];
  let [said, usage, finish] = ["", null, null];
  try {
    const stream = await asked("v1/chat/completions", { method: "POST", body: JSON.stringify(body), signal });
    for await (const chunk of events(stream)) {
      if (chunk.error) throw new Error(chunk.error.message);
      usage = chunk.usage ?? usage;
      finish = chunk.choices[0]?.finish_reason ?? finish;
      said += chunk.choices[0]?.delta.content ?? "";
      showing(() => { text.textContent = said.trimStart(); });
    }
    if (!finish) throw new Error("The answer broke off.");
    const seconds = ((performance.now() - began) / 1000).toFixed(1);
    const cut = finish === "length" ? " · cut off at the longest answer this server writes" : "";
    note.textContent = `${usage.completion_tokens} tokens · ${seconds} s${cut}`;
  } catch (error) {
    note.textContent = error.name === "AbortError" ? "stopped" : error.message;
    note.classList.toggle("wrong", error.name !== "AbortError");
  } finally {
    box.classList.remove("writing");
  }
  // A box that is gone belonged to a conversation that is over.
  if (said.trim() && box.isConnected) model.messages = [...messages, { role: "assistant", content: said.trim() }];
  return said.trim() || note.textContent;
}

/** Changes the page, and keeps its end in sight for those who are there. */
function showing(change) {
  const atEnd = page.scrollHeight - page.scrollTop - page.clientHeight < 60;
  change();
  if (atEnd) page.scrollTop = page.scrollHeight;
}

async function send() {
  const words = message.value.trim();
  if (!words || writing) return;
  const language = $("language").value;
  const prompt = language ? `${words}\nAnswer in ${language}.` : words;
  writing = new AbortController();
  busy(true);
  try {
    if (!models.length) await loadModels();
  } catch (error) {
    tell(error.message);
    busy(false);
    writing = null;
    return;
  }
  message.value = "";
  grow();
  const turn = made("li", "");
  const [question, answers] = [made("p", "asked", prompt), made("div", "answers")];
  question.dir = "auto";
  const boxes = models.map((model) => {
    const box = made("article", "answer writing");
    const text = made("p", "text");
    text.dir = "auto";
    if (models.length > 1) box.append(made("h2", "", model.id));
    else box.setAttribute("aria-label", "Answer");
    box.append(text, made("p", "note"));
    return box;
  });
  answers.append(...boxes);
  turn.append(question, answers);
  settings(false);
  $("welcome").hidden = true;
  $("new").hidden = false;
  turns.append(turn);
  page.scrollTop = page.scrollHeight;
  $("status").textContent = "The answer is being written.";
  const said = await Promise.all(models.map((model, place) => answer(model, prompt, boxes[place], writing.signal)));
  showing(() => {});
  // A reader of screens hears an answer once, when it is whole.
  $("status").textContent = models.map((model, place) => (models.length > 1 ? `${model.id}: ` : "") + said[place]).join("\n");
  writing = null;
  busy(false);
}

function busy(on) {
  const [had, shown, other] = [document.activeElement, on ? $("stop") : $("send"), on ? $("send") : $("stop")];
  shown.hidden = false;
  if (had === other) shown.focus();
  other.hidden = true;
}

function settings(shown) {
  $("settings").hidden = !shown;
  $("open").setAttribute("aria-expanded", shown);
}

/** What concerns the whole page, where the answers would be. */
function tell(text) {
  $("turns-note").textContent = text;
  $("status").textContent = text;
}

function stop() {
  writing?.abort();
}

function grow() {
  if (CSS.supports("field-sizing", "content")) return;
  message.style.height = "auto";
  message.style.height = `${message.scrollHeight + 2}px`;
}

function begin() {
  stop();
  for (const model of models) model.messages = [];
  turns.replaceChildren();
  $("welcome").hidden = false;
  $("new").hidden = true;
  message.focus();
}

$("language").append(...LANGUAGES.map((name) => new Option(name, name)));
$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
message.addEventListener("keydown", (event) => {
  // While a word is being composed, as in Japanese or Telugu, Enter belongs to the keyboard.
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    send();
  }
});
message.addEventListener("input", grow);
document.addEventListener("keydown", (event) => event.key === "Escape" && stop());
$("stop").addEventListener("click", stop);
$("new").addEventListener("click", begin);
$("open").addEventListener("click", () => settings($("settings").hidden));
$("key").addEventListener("change", () => loadModels().catch((error) => tell(error.message)));
loadModels().catch((error) => tell(error.message));
