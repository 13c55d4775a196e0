/**
 * Everything runs on the connection that the application has. mysql2's promise connections fit; so does whatever else answers
 * `query(sql)` and `execute(sql, values)` (a prepared statement) with `[rows or result, ...]`.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';

export interface Connection {
    query(options: any): Promise<[any, ...any[]]>;
    execute(options: any, values?: any): Promise<[any, ...any[]]>;
    destroy?(): void;
    release?(): void;
    end?(): unknown;
}

/** Bytes are sent as they are, a string as UTF-8, anything else as JSON. */
export type Payload = Uint8Array | string | object;

export interface Outgoing {
    topic: string;
    payload: Payload;
    /** Messages of one key keep their order. */
    key?: string | null;
    headers?: Record<string, unknown> | null;
    /** application/json if not given. */
    contentType?: string;
    /** The consumer groups that have to report it as applied, comma-separated. */
    receiptFrom?: string | null;
    /** The topic of the compensation when one of them rejects it. */
    onRejected?: string | null;
    messageId?: string;
}

export namespace outbox {
    interface Message extends Outgoing {
        /** For later: a point in time. Not together with deliverInMs. */
        deliverAt?: Date;
        /** For later: from the database's now. */
        deliverInMs?: number;
        /** Another outbox table than "outbox". */
        table?: string;
    }
    /** Adds a message in the transaction that is open on `tx`, and resolves to its id. Nothing is committed here. */
    function add(tx: Connection, message: Message): Promise<string>;
    /** After the commit: lets the relay look at once. `doorbell` is the relay's UDP doorbell_address, host:port. A hint: false
     * means that the relay was not reached, and will look by itself. */
    function ring(doorbell: string, outbox?: string): Promise<boolean>;
    /** A UUID version 7. */
    function newMessageId(): string;
}

export namespace inbox {
    interface Message {
        id: number;
        messageId: string;
        topic: string;
        key: string | null;
        contentType: string | null;
        headers: Record<string, any>;
        /** As they came. */
        rawHeaders: Buffer | null;
        source: string | null;
        traceparent: string | null;
        createdAt: Date | null;
        receivedAt: Date;
        /** 1 for the first try. */
        attempt: number;
        maxAttempts: number;
        payload: Buffer;
        json(): any;
    }
    /** Return or throw it: undone, and tried again after so many ms (absent: the queue's backoff), as after any other error. */
    class Retry extends Error {
        constructor(reason?: string, afterMs?: number);
    }
    /** Return or throw it: it will never succeed. Kept as dead, with the reason. */
    class Reject extends Error {
        constructor(reason: string);
    }
    /** Does the work of a message on `tx`, whose transaction is open and which it must neither commit nor roll back. */
    type Handler = (tx: any, message: Message) => Promise<void | Retry | Reject> | void | Retry | Reject;
    interface Options {
        /** How often an empty inbox is asked, at the least; 1000. */
        pollMs?: number;
        /** Up to so many messages of one key share a commit, for 50 ms at most; 20. */
        follow?: number;
        /** What went wrong; console.warn. */
        onError?: (error: unknown, message?: Message) => void;
    }
    /** One worker; as many as you like, in any number of processes, side by side. */
    class Worker {
        /** `connect` gives a connection that is the worker's own: at the start, and again when one was lost. */
        constructor(queue: string, handler: Handler, connect: () => Promise<Connection>, options?: Options);
        /** Works until stop(). What goes wrong with the database is reported and tried again. */
        run(): Promise<void>;
        /** Lets the message in hand end; run() resolves then. */
        stop(): void;
    }
    /** Works off the queue until SIGTERM or SIGINT, which let the message in hand end. */
    function work(queue: string, handler: Handler, connect: () => Promise<Connection>, options?: Options): Promise<void>;
}

export namespace half {
    type Message = Outgoing;
    interface State {
        gid: string;
        /** accepted: of a verdict that was not waited for. */
        state: 'prepared' | 'committed' | 'rolled_back' | 'parked' | 'accepted';
        decided_by: string | null;
        decided_at: string | null;
        repeated?: boolean;
        [field: string]: unknown;
    }
    /** The relay has said no. */
    class Refused extends Error {
        status: number;
        reason: string | undefined;
        answer: Record<string, unknown>;
    }
    /** No clear answer in time: perhaps done. Repeat it, or leave it to check-back. */
    class Unanswered extends Error {}
    /** The barrier is taken: a check has decided first, or this gid was used before. Roll back. */
    class Decided extends Error {}
    /** The relay's API; requests are repeated while there is no clear answer. */
    class Client {
        constructor(url: string, token: string, options?: { timeoutMs?: number; patienceMs?: number });
        prepare(gid: string, producer: string, parts: { commit?: Message[]; rollback?: Message[]; firstCheckMs?: number }): Promise<State>;
        /** wait false: until the relay has queued the verdict. Should it be lost there, check-back finds out; nobody says of a conflict. */
        commit(gid: string, options?: { wait?: boolean }): Promise<State>;
        rollback(gid: string, options?: { wait?: boolean }): Promise<State>;
        lookup(gid: string): Promise<State>;
    }
    /** The first statement of the local transaction. */
    function barrier(tx: Connection, gid: string): Promise<void>;
    /** What became of the local transaction. Uses a transaction of its own on `tx`. */
    function check(tx: Connection, gid: string): Promise<'committed' | 'rolled_back' | 'in_progress'>;
    /** The check address, for http.createServer or a framework's route. */
    function checkHandler(connect: () => Promise<Connection>, token: string): (request: IncomingMessage, response: ServerResponse) => Promise<void>;
}
