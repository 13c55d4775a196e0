/** The few things that outbox, inbox and half ask of a connection. */

export const DUPLICATE = 1062;
export const LOCK_TIMEOUT = 1205;
/** Deadlock, lock wait, and MariaDB's "record has changed": the transaction has to be rolled back, and can then succeed. */
export const LOCKED = new Set([1020, LOCK_TIMEOUT, 1213]);

// Dates as text: what is in the database is UTC, and a driver that makes a Date of it guesses.
const typeCast = (field, next) => (field.type === 'DATETIME' ? field.string() : next());

// Numbers as text, which MySQL compares with a number's column as an integer: the driver would send a floating-point number.
function parameter(value) {
    if (value === null || typeof value === 'string' || Buffer.isBuffer(value))
        return value;
    if (Number.isSafeInteger(value))
        return String(value);
    throw new TypeError(`a value of type ${typeof value} cannot be sent to the database`);
}

/**
 * Runs one statement: its rows as arrays, and how many rows were changed. Values are sent apart from the text, never within it: how
 * a driver quotes depends on its version and on the session's sql_mode.
 */
export async function run(tx, sql, values = []) {
    const options = { sql, rowsAsArray: true, typeCast, dateStrings: true };
    const [result] = await (values.length > 0 ? tx.execute(options, values.map(parameter)) : tx.query(options));
    return Array.isArray(result) ? { rows: result, changed: 0 } : { rows: [], changed: result.affectedRows };
}

/** Closes a connection that is in doubt, so that no pool hands it out again. */
export function discard(tx) {
    quietly(() => (tx?.destroy ?? tx?.end)?.call(tx));
}

/** Gives a good connection back to its pool; one of none is ended. mysql2 has release() on both, and it throws on the latter. */
export function giveBack(tx) {
    try {
        tx?.release();
    } catch {
        quietly(() => tx.end?.());
    }
}

// A rejection that nobody awaits ends the process.
function quietly(end) {
    try {
        Promise.resolve(end()).catch(() => {});
    } catch {} // it is gone already
}
