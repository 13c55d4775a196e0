/** The stock service: takes orders from the inbox, and says through the outbox what it has reserved. */
import mysql from 'mysql2/promise';
import { inbox, outbox } from 'rowpost';

const { DB_HOST, DB_PORT, DB_USER, DB_PASSWORD, DB_NAME } = process.env;
const connect = () => mysql.createConnection({
    host: DB_HOST, port: Number(DB_PORT), user: DB_USER, password: DB_PASSWORD, database: DB_NAME,
});

async function onOrder(tx, message) {
    const { sku, quantity } = message.json();
    // execute(), not query(): what comes in a message is never put into the text of a statement.
    const [result] = await tx.execute('UPDATE stock SET on_hand = on_hand - ? WHERE sku = ?',
        [Number(quantity), String(sku)]);
    if (result.affectedRows === 0)
        return new inbox.Reject('no such article'); // what is thrown: undone, and tried again
    await outbox.add(tx, { topic: 'stock.reserved', payload: message.payload, key: String(sku) });
}

await inbox.work('stock', onOrder, connect); // until SIGTERM
