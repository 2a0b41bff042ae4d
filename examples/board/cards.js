/* cards.js: what the actions of app.py do to the board, so that the page can show it at once.
 *
 * Each function does what the handler of that name does, but returns a new value and leaves the old one as it is. The
 * client calls it again on whatever arrives from other people, until the server has made the change itself.
 */
export const expected = {
  "board/card_added": ({ cards }, { id, title }) =>
    cards.some((each) => each.id === id) ? { cards } : { cards: [...cards, { id, title: title.trim(), column: "todo" }] },

  "board/card_moved": ({ cards }, { id, column, before }) => {
    const card = cards.find((each) => each.id === id), others = cards.filter((each) => each.id !== id);
    if (card === undefined) return { cards }; // somebody has removed it: the server will refuse the move
    const place = others.findIndex((each) => each.id === before && each.column === column);
    return { cards: others.toSpliced(place < 0 ? others.length : place, 0, { ...card, column }) };
  },

  "board/card_removed": ({ cards }, { id }) => ({ cards: cards.filter((each) => each.id !== id) }),
};

/** Where an arrow leads from a card: {column, before}, or undefined if there is no further place. */
export function neighbour(cards, card, key, columns) {
  const own = cards.filter(({ column }) => column === card.column), at = own.indexOf(card);
  const column = columns[columns.indexOf(card.column) + { ArrowLeft: -1, ArrowRight: 1 }[key]];
  if (key === "ArrowUp" && at > 0) return { column: card.column, before: own[at - 1].id };
  if (key === "ArrowDown" && at < own.length - 1) return { column: card.column, before: own[at + 2]?.id ?? null };
  return column && { column, before: cards.filter((each) => each.column === column)[at]?.id ?? null };
}
