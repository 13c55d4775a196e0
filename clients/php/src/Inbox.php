<?php

declare(strict_types=1);

namespace Rowpost;

use PDO;

/**
 * Receiving: each message is handled once, in the transaction of your own writes (docs/inbox.md).
 *
 *     $inbox = new Inbox('stock', fn () => new PDO(...));
 *     $inbox->work(function (PDO $tx, Message $message) {
 *         ...                                        // your own writes on $tx: done
 *         return new Reject('no such article');      // or throw it: never, kept as dead with the reason
 *         throw new Retry('later', 5000);            // undone, and tried again; any other exception, too
 *     });
 *
 * One worker for one process; as many as you like, side by side. For a cron job: while ($inbox->step($handler)) {}
 */
final class Inbox
{
    // The statements of sql/inbox/statements.sql; a test compares them.
    private const COLUMNS = <<<'SQL'
        SELECT id, message_id, topic, ordering_key, content_type, headers, source, traceparent, created_at, received_at,
               attempts + 1 AS attempt, max_attempts, key_hash, size,
               IF(size + 65536 <= @@max_allowed_packet, payload, NULL) AS payload, CAST(due_at AS CHAR) AS due
        FROM inbox
        SQL;
    private const TAKE = self::COLUMNS . <<<'SQL'
         FORCE INDEX (inbox_due)
        WHERE queue = ? AND state = 'ready' AND due_at >= ? AND due_at <= UTC_TIMESTAMP(6)
        ORDER BY due_at LIMIT 1 FOR UPDATE SKIP LOCKED
        SQL;
    private const FOLLOWING = self::COLUMNS . ' WHERE id = ?';
    private const NEXT = <<<'SQL'
        SELECT id FROM inbox FORCE INDEX (inbox_key)
        WHERE queue = ? AND key_hash = ? AND after_id = ? AND state = 'blocked'
        ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED
        SQL;
    private const DONE = <<<'SQL'
        UPDATE inbox FORCE INDEX (PRIMARY)
        SET state = IF(state = 'ready', 'done', 'ready'), due_at = UTC_TIMESTAMP(6)
        WHERE (id = ? AND state = 'ready') OR (id = ? AND state = 'blocked')
        SQL;
    private const RETRY = <<<'SQL'
        UPDATE inbox SET
            due_at = UTC_TIMESTAMP(6) + INTERVAL IF(attempts + 1 >= max_attempts, 0, CAST(1000 * LEAST(31536000000, GREATEST(0,
                0 + COALESCE(?, LEAST(retry_max_ms, retry_min_ms * POW(2, LEAST(attempts, 24))) * (0.5 + RAND() / 2))))
                AS UNSIGNED)) MICROSECOND,
            state = IF(attempts + 1 >= max_attempts, 'dead', 'ready'),
            reason_code = 'OBX_E_HANDLER', reason = COALESCE(UNHEX(LEFT(HEX(LEFT(?, 1024)), 2048)), ''),
            first_failed_at = COALESCE(first_failed_at, UTC_TIMESTAMP(6)), last_failed_at = UTC_TIMESTAMP(6),
            attempts = attempts + 1
        WHERE id = ? AND state = 'ready'
        SQL;
    private const REJECT = <<<'SQL'
        UPDATE inbox SET
            due_at = UTC_TIMESTAMP(6), state = 'dead',
            reason_code = 'OBX_E_REJECTED', reason = COALESCE(UNHEX(LEFT(HEX(LEFT(?, 1024)), 2048)), ''),
            first_failed_at = COALESCE(first_failed_at, UTC_TIMESTAMP(6)), last_failed_at = UTC_TIMESTAMP(6),
            attempts = attempts + 1
        WHERE id = ? AND state = 'ready'
        SQL;
    private const FAILED = <<<'SQL'
        SELECT id FROM inbox WHERE id = ? AND state = 'ready' AND attempts + 1 = ? FOR UPDATE SKIP LOCKED
        SQL;
    private const COUNT = <<<'SQL'
        UPDATE inbox SET
            due_at = IF(attempts >= max_attempts, UTC_TIMESTAMP(6), UTC_TIMESTAMP(6) + INTERVAL 30 SECOND),
            state = IF(attempts >= max_attempts, 'dead', 'ready'),
            reason_code = 'OBX_E_TIMEOUT', reason = 'its worker did not come back',
            first_failed_at = COALESCE(first_failed_at, UTC_TIMESTAMP(6)), last_failed_at = UTC_TIMESTAMP(6),
            attempts = attempts + 1
        WHERE id = ? AND state = 'ready'
        SQL;
    private const COUNTED = <<<'SQL'
        UPDATE inbox SET attempts = attempts - 1 WHERE id = ? AND state = 'ready' AND attempts = ?
        SQL;
    private const PAYLOAD = <<<'SQL'
        SELECT SUBSTRING(payload, ? + 1, ?) FROM inbox WHERE id = ?
        SQL;

    private const PIECE = 524288; // of a payload that the session's max_allowed_packet does not let through in one
    private const FIRST_WAIT_MS = 10; // after the last message; doubles up to the poll interval
    private const LONGEST_PAUSE_MS = 5000; // while the database cannot be reached
    private const LOCKS_IN_A_ROW = 3; // of one message, then it waits like one that has failed and lets others pass
    private const REASON_BYTES = 1024; // of a reason are kept
    private const NO_REASON = 'its reason cannot be stored';
    private const FOLLOW_S = 0.05; // how long a transaction may go on with the next message of its key
    private const START = '1970-01-01'; // where a take begins that is to see all that is due
    private const START_SHARE = 20; // of its time a worker spends one part in so many on takes that begin there
    private const LONGEST_SKIP_S = 60.0;

    private ?PDO $tx = null;
    private bool $isStopping = false;
    /** @var resource|null */
    private $bell = null;
    // A message that may have ended its worker is counted first: each one until the first went well, and the one in whose
    // transaction the connection was lost.
    private bool $isNew = true;
    private bool $isCounted = false;
    private int $suspect = 0;
    // After a rollback the next one has a transaction to itself: else a message that fails in the wake of others of its key takes
    // them back with it, time and again, and its failure is never noted.
    private bool $isAlone = true;
    private ?Message $current = null;
    private int $lockedId = 0;
    private int $lockedTimes = 0;
    private string $due = self::START; // of the message that was taken last
    private float $startAgain = 0.0; // when a take begins at the start again
    private bool $isFromStart = true; // the last one did
    /** @var callable(\Throwable, ?Message): void */
    private $onError;

    /**
     * @param callable(): PDO $connect gives a connection, with PDO::ERRMODE_EXCEPTION: at the start, and again when one was lost
     * @param ?string $wakeDir wake_dir of the queue in inbox-relay's configuration: it ends a wait at once
     * @param int $pollMs how often an empty inbox is asked, at the least
     * @param int $follow up to so many messages of one key share a commit, for 50 ms at most
     * @param ?callable(\Throwable, ?Message): void $onError what went wrong; error_log() if not given
     */
    public function __construct(
        private readonly string $queue,
        private readonly mixed $connect,
        private readonly ?string $wakeDir = null,
        private readonly int $pollMs = 1000,
        private readonly int $follow = 20,
        ?callable $onError = null,
    ) {
        $this->onError = $onError ?? fn (\Throwable $error, ?Message $message) => error_log("inbox $queue: {$message?->messageId} $error");
    }

    /** Lets the message in hand end; work() returns then. From a signal handler. */
    public function stop(): void
    {
        $this->isStopping = true;
    }

    /**
     * Works until stop(), SIGTERM or SIGINT. What goes wrong with the database is reported and tried again.
     *
     * @param callable(PDO, Message): mixed $handler
     */
    public function work(callable $handler): void
    {
        if (function_exists('pcntl_async_signals')) {
            pcntl_async_signals(true);
            pcntl_signal(SIGTERM, fn () => $this->stop(), false);
            pcntl_signal(SIGINT, fn () => $this->stop(), false);
        }
        $path = $this->listen();
        $wait = $pause = self::FIRST_WAIT_MS;
        try {
            while (!$this->isStopping) {
                try {
                    if ($this->turn($handler) || $this->wait($wait)) {
                        $wait = self::FIRST_WAIT_MS;
                    } else {
                        $wait = min(2 * $wait, $this->pollMs);
                    }
                    $pause = self::FIRST_WAIT_MS;
                } catch (\Throwable) { // reported
                    usleep($pause * 1000);
                    $pause = min(2 * $pause, self::LONGEST_PAUSE_MS);
                }
            }
        } finally {
            $this->tx = null; // what is open is rolled back by the server
            if ($path !== null) {
                fclose($this->bell);
                @unlink($path); // perhaps the folder was cleaned
            }
        }
    }

    /**
     * One transaction: a message, and those of its key that follow. False: there was none, from the start on. Throws what has
     * rolled it back.
     *
     * @param callable(PDO, Message): mixed $handler
     */
    public function step(callable $handler): bool
    {
        if ($this->turn($handler)) {
            return true;
        }
        if ($this->isFromStart) {
            return false;
        }
        $this->startAgain = 0.0; // a cron job ends with "none", and would leave what was committed late to the next one
        return $this->turn($handler);
    }

    private function turn(callable $handler): bool
    {
        try {
            $this->tx ??= ($this->connect)();
            Db::expectExceptions($this->tx);
            return $this->serve($handler);
        } catch (\Throwable $error) {
            $this->report($error, $this->current);
            $this->recover($error);
            throw $error;
        }
    }

    /** What a listener throws must not keep a failure from being noted. */
    private function report(\Throwable $error, ?Message $message): void
    {
        try {
            ($this->onError)($error, $message);
        } catch (\Throwable $ofListener) {
            error_log("inbox {$this->queue}: the listener has failed: $ofListener");
        }
    }

    private function listen(): ?string
    {
        if ($this->wakeDir === null) {
            return null;
        }
        $path = sprintf('%s/%d-%s', $this->wakeDir, getmypid(), bin2hex(random_bytes(4)));
        $this->bell = stream_socket_server("udg://$path", $code, $text, STREAM_SERVER_BIND);
        if ($this->bell === false) {
            throw new \RuntimeException("$path: $text");
        }
        chmod($path, 0666); // inbox-relay runs as another user, and to send it needs the right to write
        stream_set_blocking($this->bell, false);
        return $path;
    }

    /** Until the time is over, a datagram comes (true), or a signal. */
    private function wait(int $ms): bool
    {
        if ($this->bell === null) {
            usleep($ms * 1000);
            return false;
        }
        $read = [$this->bell];
        $none = null;
        if (!@stream_select($read, $none, $none, intdiv($ms, 1000), $ms % 1000 * 1000)) {
            return false;
        }
        while (stream_socket_recvfrom($this->bell, 256)) {
            // one is as good as many
        }
        return true;
    }

    private function begin(): void
    {
        $this->tx->exec('SET TRANSACTION ISOLATION LEVEL READ COMMITTED');
        $this->tx->beginTransaction();
    }

    private function serve(callable $handler): bool
    {
        $this->current = null;
        $this->isCounted = false;
        $this->begin();
        $row = $this->take();
        if ($row === null) {
            $this->tx->rollBack();
            return false;
        }
        $message = $this->current = $this->message($row);
        if (($this->isNew || $message->id === $this->suspect) && !$this->count($message)) {
            return true;
        }
        $until = microtime(true) + self::FOLLOW_S;
        for ($left = $this->follow - 1;; $left--) {
            $next = $this->handle($handler, $message, $row);
            if ($next === null) {
                return true;
            }
            if ($next === 0 || $left <= 0 || $this->isAlone || $this->isStopping || microtime(true) > $until) {
                break;
            }
            $row = Db::run($this->tx, self::FOLLOWING, [$next])[0][0] ?? null;
            if ($row === null) {
                break;
            }
            $message = $this->current = $this->message($row);
            $this->isCounted = false;
        }
        $this->tx->commit();
        $this->current = null;
        $this->isNew = $this->isAlone = false;
        $this->suspect = $this->lockedId = 0;
        return true;
    }

    /**
     * Begins at the row that was taken last, for before it are entries of rows that have ended, until the server has purged them; and
     * at the start again as often as that is cheap, for what was committed late.
     *
     * @return ?list<mixed>
     */
    private function take(): ?array
    {
        $began = microtime(true);
        // A clock that is set back does not keep it from the start for longer than it was to be.
        $isStart = $began >= $this->startAgain || $this->startAgain - $began > self::LONGEST_SKIP_S;
        $this->isFromStart = $isStart;
        $row = Db::run($this->tx, self::TAKE, [$this->queue, $isStart ? self::START : $this->due])[0][0] ?? null;
        $this->due = $row[15] ?? $this->due;
        if ($isStart) {
            $ended = microtime(true);
            $this->startAgain = $ended + min(self::START_SHARE * ($ended - $began), self::LONGEST_SKIP_S);
        }
        return $row;
    }

    /** Counts the attempt in a commit of its own, and takes the count back in the transaction of the effect. */
    private function count(Message $message): bool
    {
        Db::run($this->tx, self::COUNT, [$message->id]);
        $this->tx->commit();
        $this->isCounted = true;
        return $this->takeAgain($message);
    }

    /** In a new transaction, after the first has ended. False: another worker has it, or it is dead; nothing is open. */
    private function takeAgain(Message $message): bool
    {
        $this->begin();
        [$rows, $changed] = Db::run($this->tx, $this->isCounted ? self::COUNTED : self::FAILED, [$message->id, $message->attempt]);
        if ($this->isCounted ? $changed === 1 : $rows !== []) {
            return true;
        }
        $this->tx->rollBack();
        return false;
    }

    /**
     * Up to, and without, the commit. The id of the next of its key that is ours now, or 0; null: nothing is open any more.
     *
     * @param list<mixed> $row
     */
    private function handle(callable $handler, Message $message, array $row): ?int
    {
        $this->tx->exec('SAVEPOINT rowpost');
        try {
            if ($row[14] === null) {
                $message = $this->current = $this->message($row, $this->pieces($message->id));
            }
            $verdict = $handler($this->tx, $message);
            // Without its savepoint the transaction was ended by the handler, or by a deadlock that it has swallowed.
            if (!$verdict instanceof Retry && !$verdict instanceof Reject) {
                $this->tx->exec('RELEASE SAVEPOINT rowpost');
                $verdict = null;
            }
        } catch (Retry | Reject $thrown) {
            $verdict = $thrown;
        } catch (\Throwable $error) {
            if (Db::isLocked($error)) {
                throw $error;
            }
            $this->report($error, $message);
            $verdict = new Retry(get_class($error) . ': ' . $error->getMessage());
        }
        if ($verdict === null) {
            return $this->done($message, $row[12]);
        }
        try {
            $this->tx->exec('ROLLBACK TO SAVEPOINT rowpost');
        } catch (\PDOException) {
            $this->rollBack();
            $this->isAlone = true;
            if (!$this->takeAgain($message)) {
                return null;
            }
        }
        $this->fail($message, $verdict);
        return 0;
    }

    /** Also when PDO believes that no transaction is open: one query, so that a lost connection is noticed. */
    private function rollBack(): void
    {
        if ($this->tx->inTransaction()) {
            $this->tx->rollBack();
        } else {
            $this->tx->exec('ROLLBACK');
        }
    }

    private function done(Message $message, ?string $keyHash): int
    {
        $next = 0;
        if ($keyHash !== null) {
            $next = (int) (Db::run($this->tx, self::NEXT, [$this->queue, $keyHash, $message->id])[0][0][0] ?? 0);
        }
        $this->expect(Db::run($this->tx, self::DONE, [$message->id, $next]), $next === 0 ? 1 : 2);
        return $next;
    }

    private function fail(Message $message, Retry|Reject $verdict): void
    {
        $note = fn (string $reason) => $verdict instanceof Reject
            ? Db::run($this->tx, self::REJECT, [$reason, $message->id])
            : Db::run($this->tx, self::RETRY, [$verdict->afterMs, $reason, $message->id]);
        try {
            $noted = $note(self::reason($verdict->getMessage()));
        } catch (\PDOException $error) {
            if (Db::isLocked($error)) {
                throw $error;
            }
            // A failure that is not noted would be met again and again: it counts, whatever is wrong with its reason.
            $noted = $note(self::NO_REASON);
        }
        $this->expect($noted, 1);
    }

    /** What is kept of a reason: valid UTF-8, cut between characters. By way of JSON, which needs no extension. */
    private static function reason(string $text): string
    {
        // A few bytes more, so that what is cut here is cut again below.
        $text = json_decode(json_encode(substr($text, 0, self::REASON_BYTES + 4), JSON_INVALID_UTF8_SUBSTITUTE));
        $end = min(strlen($text), self::REASON_BYTES);
        while ($end < strlen($text) && (ord($text[$end]) & 0xc0) === 0x80) {
            $end--;
        }
        return substr($text, 0, $end);
    }

    /** @param array{list<list<mixed>>, int} $result */
    private function expect(array $result, int $wanted): void
    {
        if ($result[1] !== $wanted) {
            throw new \RuntimeException('the message is not ours any more');
        }
    }

    /** Rolls back, and keeps the connection if it is good still. The database knows what was committed. */
    private function recover(\Throwable $error): void
    {
        $message = $this->current;
        $this->current = null;
        $this->isAlone = true;
        if ($this->tx === null) {
            return;
        }
        try {
            $this->rollBack();
            Db::expectExceptions($this->tx); // one that a handler has silenced is not used again
            if ($message !== null && Db::isLocked($error)) {
                $this->passBy($message, $error);
            }
        } catch (\Throwable) {
            $this->suspect = $message?->id ?? $this->suspect;
            $this->tx = null;
        }
    }

    /** A message that meets a lock time and again must not hold its worker: it waits like one that has failed. */
    private function passBy(Message $message, \Throwable $error): void
    {
        $this->lockedTimes = $this->lockedId === $message->id ? $this->lockedTimes + 1 : 1;
        $this->lockedId = $message->id;
        if ($this->lockedTimes < self::LOCKS_IN_A_ROW && !$this->isCounted) {
            return;
        }
        if ($this->takeAgain($message)) {
            $this->fail($message, new Retry($error->getMessage()));
            $this->tx->commit();
        }
        $this->lockedId = 0;
    }

    /** A payload that did not come with its row. */
    private function pieces(int $id): string
    {
        $payload = '';
        do {
            $piece = (string) Db::run($this->tx, self::PAYLOAD, [strlen($payload), self::PIECE, $id])[0][0][0];
            $payload .= $piece;
        } while (strlen($piece) === self::PIECE);
        return $payload;
    }

    /** @param list<mixed> $row */
    private function message(array $row, ?string $payload = null): Message
    {
        $utc = fn (?string $text) => $text === null ? null : new \DateTimeImmutable($text, new \DateTimeZone('UTC'));
        $headers = $row[5] === null ? [] : json_decode($row[5], true, flags: JSON_THROW_ON_ERROR | JSON_BIGINT_AS_STRING);
        return new Message((int) $row[0], $row[1], $row[2], $row[3], $row[4], $headers, $row[5], $row[6], $row[7], $utc($row[8]), $utc($row[9]),
            (int) $row[10], (int) $row[11], $payload ?? (string) $row[14]);
    }
}
