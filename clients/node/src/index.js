/** Rowpost for Node: outbox sends, inbox receives, half is for work outside of the database. Types: index.d.ts. */
export * as half from './half.js';
export * as inbox from './inbox.js';
export * as outbox from './outbox.js';
