/** Elements of the document: those that index.html has, and new ones. Text gets in as text only. */

export const element = (id) => document.getElementById(id);

export function make(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}
