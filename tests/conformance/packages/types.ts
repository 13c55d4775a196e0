// Has to compile: the client's types with mysql2's own connections, as a service would use them.
import mysql from 'mysql2/promise';
import { half, inbox, outbox } from 'rowpost';

const pool: mysql.Pool = mysql.createPool({});

export async function place(): Promise<string> {
    const tx = await pool.getConnection();
    await tx.beginTransaction();
    const id: string = await outbox.add(tx, { topic: 'order.placed', payload: { sku: 'bolt' }, key: 'k', deliverInMs: 5 });
    await tx.commit();
    await outbox.ring('127.0.0.1:7000');
    return id;
}

const handler: inbox.Handler = async (tx: mysql.PoolConnection, message) => {
    await tx.execute('UPDATE stock SET n = n - ? WHERE sku = ?', [message.json().n, message.key]);
    return message.attempt > 3 ? new inbox.Reject('never') : new inbox.Retry('later', 50);
};

export const worker = new inbox.Worker('stock', handler, () => pool.getConnection(), { pollMs: 100 });
export const check = half.checkHandler(() => pool.getConnection(), 'token');
// @ts-expect-error a message has a topic
export const wrong = () => new half.Client('', '').prepare('g', 'p', { commit: [{ payload: 'x' }] });
