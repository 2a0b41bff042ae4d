/* people.js: who takes part in the open chat, who is here, who is typing; inviting, leaving and deleting.
 *
 * Invariants: it shows what the server says. What cannot be undone is asked twice. What went wrong stands in the
 * dialog.
 */
import { copy, element, icon, say, show } from "./elements.js";
import { avatarOf, listed, nameOf } from "./names.js";
import { problemWith } from "./person.js";
import { explained } from "./server.js";
import { hashOf } from "./sidebar.js";

const MAX_FACES = 4;

export class People {
  #me;
  #part;
  #on;
  #talk = null;
  #drawn = {};

  /** `on.gone()` is called when this person has left or deleted the chat. */
  constructor(me, parts, on) {
    [this.#me, this.#part, this.#on] = [me, parts, on];
    const { dialog, button } = parts,
      form = dialog.querySelector("form");
    button.addEventListener("click", () => this.show());
    form.addEventListener("submit", (event) => (event.preventDefault(), void this.#invite(form.elements.name)));
    this.#in("copy-link").addEventListener("click", (event) => void copy(this.link, event.currentTarget));
    this.#in("delete").addEventListener("click", () => this.#sure(true));
    this.#in("keep").addEventListener("click", () => this.#sure(false));
    this.#in("delete-now").addEventListener("click", () => void this.#leave(() => this.#talk.delete()));
    this.#in("leave").addEventListener("click", () => void this.#leave(() => this.#talk.remove(this.#me)));
  }

  #in(name) {
    return this.#part.dialog.querySelector(`[data-part=${name}]`);
  }

  get link() {
    return new URL(hashOf(this.#talk.id), location.href).href;
  }

  open(talk) {
    this.#talk = talk;
    this.#part.dialog.close();
    this.#drawn = {};
  }

  show() {
    this.#sure(false);
    say(this.#in("problem"), "");
    this.#in("link").textContent = this.link;
    this.#drawn.list = undefined;
    this.render();
    this.#part.dialog.showModal();
  }

  render() {
    const present = this.#talk.present,
      { owner, participants } = this.#talk.people;
    const others = present.map(({ name }) => name).filter((name) => name !== this.#me);
    const typing = present.filter((person) => person.typing && person.name !== this.#me).map(({ name }) => name);
    show(this.#part.button, this.#talk.exists);
    this.#draw("faces", others.join("\n"), () => this.#faces(others));
    this.#draw("typing", typing.join("\n"), () =>
      this.#part.typing.replaceChildren(
        ...(typing.length === 0 ? [] : [...listed(typing), typing.length === 1 ? " is typing…" : " are typing…"]),
      ),
    );
    if (!this.#part.dialog.open && this.#drawn.list !== undefined) return;
    const key = JSON.stringify([owner, participants, others]);
    this.#draw("list", key, () => this.#list(owner, participants, new Set(present.map(({ name }) => name))));
  }

  /** Draws what depends on `state` only when it has changed. */
  #draw(what, state, work) {
    if (this.#drawn[what] === state) return;
    this.#drawn[what] = state;
    work();
  }

  #faces(others) {
    const shown = others.slice(0, MAX_FACES),
      more = others.length - shown.length;
    this.#part.faces.replaceChildren(
      ...shown.map((name) => avatarOf(name, "small")),
      ...(more > 0 ? [element("span", { className: "avatar small more" }, `+${more}`)] : []),
    );
    const here = others.length === 0 ? "Share this chat" : `Share this chat. Also here: ${others.join(", ")}`;
    this.#part.button.ariaLabel = this.#part.button.title = here;
  }

  #list(owner, participants, here) {
    const mine = owner === this.#me,
      everybody = owner === null ? participants : [owner, ...participants];
    this.#in("list").replaceChildren(
      ...everybody.map((name) =>
        this.#person(name, { isOwner: name === owner, isHere: here.has(name), removable: mine && name !== owner }),
      ),
    );
    show(this.#in("invite"), mine);
    show(this.#in("delete"), mine);
    show(this.#in("leave"), !mine && participants.includes(this.#me));
  }

  #person(name, { isOwner, isHere, removable }) {
    const facts = [name === this.#me ? "you" : null, isOwner ? "owner" : null, isHere ? "here now" : null]
      .filter(Boolean)
      .join(", ");
    const remove = element(
      "button",
      {
        type: "button",
        className: "quiet-button",
        ariaLabel: `Remove ${name}`,
        onclick: () => void this.#do(() => this.#talk.remove(name)),
      },
      "Remove",
    );
    const face = avatarOf(name, "small");
    face.classList.toggle("here", isHere);
    return element(
      "li",
      {},
      face,
      element("span", { className: "grow" }, nameOf(name), element("small", {}, facts)),
      removable ? remove : null,
    );
  }

  async #do(work) {
    say(this.#in("problem"), "");
    try {
      await work();
      return true;
    } catch (error) {
      say(this.#in("problem"), explained(error));
      return false;
    }
  }

  async #invite(field) {
    const name = field.value.trim(),
      problem = problemWith(name);
    if (problem !== null) return say(this.#in("problem"), problem);
    if (await this.#do(() => this.#talk.invite(name))) if (field.value.trim() === name) field.value = "";
  }

  async #leave(work) {
    if (!(await this.#do(work))) return;
    this.#part.dialog.close();
    this.#on.gone();
  }

  #sure(asking) {
    show(this.#in("sure"), asking);
    show(this.#in("ends"), !asking);
    if (asking) this.#in("keep").focus();
  }
}
