<?php

declare(strict_types=1);

namespace Rowpost;

use PDO;

/**
 * Half-messages: sent exactly when work outside of the outbox's database succeeds (docs/half-messages.md). prepare(), the local
 * transaction with barrier() as its first statement, then commit() or rollback(). If the producer dies in between, the relay asks
 * the check address, see answerCheck().
 *
 * An object is the relay's API: a request has $timeout seconds, and is repeated while there is no clear answer, for $patience
 * seconds. Redirects are not followed.
 */
final class Half
{
    private const ANSWER_MAX = 16 * 1024 * 1024;

    private readonly string $url;

    public function __construct(
        string $url,
        private readonly string $token,
        private readonly float $timeout = 2.0,
        private readonly float $patience = 20.0,
    ) {
        $this->url = rtrim($url, '/') . '/v1/half-messages';
    }

    /**
     * A message of a half-message; the same words as Outbox::add.
     *
     * @param string|array<mixed> $payload
     * @param array<string, mixed>|null $headers
     * @return array<string, mixed>
     */
    public static function message(
        string $topic,
        string|array $payload,
        ?string $key = null,
        ?array $headers = null,
        string $contentType = 'application/json',
        ?string $receiptFrom = null,
        ?string $onRejected = null,
        ?string $messageId = null,
    ): array {
        $bytes = is_array($payload) ? json_encode($payload, JSON_THROW_ON_ERROR | JSON_PRESERVE_ZERO_FRACTION) : $payload;
        return ['topic' => $topic, 'payload_base64' => base64_encode($bytes), 'ordering_key' => $key,
            'headers' => $headers === null ? null : (object) $headers, 'content_type' => $contentType, 'receipt_from' => $receiptFrom,
            'on_rejected' => $onRejected, 'message_id' => $messageId];
    }

    /**
     * Start the local transaction only when it has returned.
     *
     * @param list<array<string, mixed>> $commit
     * @param list<array<string, mixed>> $rollback
     * @return array<string, mixed>
     */
    public function prepare(string $gid, string $producer, array $commit, array $rollback = []): array
    {
        $body = ['gid' => $gid, 'producer' => $producer, 'commit' => $commit, 'rollback' => $rollback];
        return $this->call('POST', '', $gid, json_encode($body, JSON_THROW_ON_ERROR | JSON_PRESERVE_ZERO_FRACTION));
    }

    /**
     * Without $wait it returns when the relay has queued the verdict (state is "accepted"); should it be lost there, check-back
     * finds out. Then nobody says of a conflict.
     *
     * @return array<string, mixed>
     */
    public function commit(string $gid, bool $wait = true): array
    {
        return $this->call('POST', '/' . rawurlencode($gid) . '/commit', $gid, '', $wait);
    }

    /** @return array<string, mixed> */
    public function rollback(string $gid, bool $wait = true): array
    {
        return $this->call('POST', '/' . rawurlencode($gid) . '/rollback', $gid, '', $wait);
    }

    /** @return array<string, mixed> */
    public function lookup(string $gid): array
    {
        return $this->call('GET', '/' . rawurlencode($gid), $gid);
    }

    /**
     * The bytes of a repeated prepare are the same: printed again they might be another prepare.
     *
     * @return array<string, mixed>
     */
    private function call(string $method, string $path, string $gid, string $body = '', bool $wait = true): array
    {
        $until = microtime(true) + $this->patience;
        for ($pause = 0.05;; $pause = min(2 * $pause, 1.0)) {
            [$status, $answer] = $this->once($method, $path, $body, $wait ? '' : "Prefer: respond-async\r\n");
            $said = json_decode($answer, true);
            if ($status >= 400 && $status < 500) {
                throw new Refused($status, is_array($said) ? $said : []);
            }
            if ($status >= 200 && $status < 300 && is_array($said) && ($said['gid'] ?? null) === $gid) {
                return $said;
            }
            if (microtime(true) + $pause > $until) {
                throw new Unanswered("$method {$this->url}$path: status $status, or an answer that names no gid");
            }
            usleep((int) ($pause * 1e6));
        }
    }

    /**
     * One request, by hand: PHP's own limit is for each read, and an answer that drips would hold its caller for good. HTTP/1.0: the
     * answer ends with the connection, and has no chunks.
     *
     * @return array{int, string} status 0: there was no whole answer in time
     */
    private function once(string $method, string $path, string $body, string $fields): array
    {
        $end = microtime(true) + $this->timeout;
        $at = parse_url($this->url);
        $isTls = ($at['scheme'] ?? '') === 'https';
        $port = $at['port'] ?? ($isTls ? 443 : 80);
        $line = @stream_socket_client(($isTls ? 'tls' : 'tcp') . "://{$at['host']}:$port", $code, $text, $this->timeout);
        if ($line === false) {
            return [0, ''];
        }
        stream_set_blocking($line, false);
        $request = "$method {$at['path']}$path HTTP/1.0\r\nHost: {$at['host']}:$port\r\nAuthorization: Bearer {$this->token}\r\n"
            . "Content-Type: application/json\r\nContent-Length: " . strlen($body) . "\r\n$fields\r\n$body";
        $answer = '';
        $head = false;
        do {
            $left = $end - microtime(true);
            if ($left <= 0 || strlen($answer) > self::ANSWER_MAX || !self::pump($line, $request, $answer, $left)) {
                break;
            }
            $head = $head ?: strpos($answer, "\r\n\r\n");
        } while (!self::isWhole($answer, $head, feof($line)) && !feof($line));
        $isWhole = self::isWhole($answer, $head, feof($line));
        fclose($line);
        $isGood = $isWhole && preg_match('#^HTTP/1\.\d (\d{3})#', $answer, $found);
        return $isGood ? [(int) $found[1], substr($answer, $head + 4)] : [0, ''];
    }

    /**
     * Sends what is left of the request and reads what is there of the answer. False: nothing comes in time.
     *
     * @param resource $line
     */
    private static function pump($line, string &$request, string &$answer, float $left): bool
    {
        $read = [$line];
        $write = $request === '' ? null : [$line];
        $none = null;
        if (!@stream_select($read, $write, $none, (int) $left, (int) (fmod($left, 1) * 1e6))) {
            return false;
        }
        if ($request !== '' && ($sent = @fwrite($line, $request)) !== false) {
            $request = substr($request, $sent);
        }
        // Until there is no more: what TLS has decrypted already does not wake a select.
        while (($part = (string) @fread($line, 65536)) !== '' && strlen($answer) <= self::ANSWER_MAX) {
            $answer .= $part;
        }
        return true;
    }

    /** Head and body are there: as many bytes as were announced, or all until the end. */
    private static function isWhole(string $answer, int|false $head, bool $hasEnded): bool
    {
        if ($head === false) {
            return false;
        }
        $isAnnounced = preg_match('/\r\nContent-Length: *(\d+)\r\n/i', substr($answer, 0, $head + 2), $length);
        return $isAnnounced ? strlen($answer) >= $head + 4 + (int) $length[1] : $hasEnded;
    }

    /** The first statement of the local transaction. Throws Decided: roll back, and do not try again. */
    public static function barrier(PDO $tx, string $gid): void
    {
        try {
            Db::run($tx, 'INSERT INTO half_barrier (gid) VALUES (?)', [$gid]);
        } catch (\PDOException $error) {
            throw Db::code($error) === Db::DUPLICATE ? new Decided($gid, 0, $error) : $error;
        }
    }

    /**
     * What became of the local transaction: "committed", "rolled_back" (and it stays so), or "in_progress". Uses a transaction of
     * its own on $tx.
     */
    public static function check(PDO $tx, string $gid): string
    {
        Db::expectExceptions($tx);
        $tx->exec('SET @rowpost_wait = @@SESSION.innodb_lock_wait_timeout, SESSION innodb_lock_wait_timeout = 1');
        try {
            $tx->beginTransaction();
            Db::run($tx, "INSERT INTO half_barrier (gid, reason) VALUES (?, 'rollback')", [$gid]);
            $tx->commit();
            return 'rolled_back';
        } catch (\PDOException $error) {
            $tx->rollBack();
            if (Db::code($error) === Db::LOCK_TIMEOUT) {
                return 'in_progress';
            }
            if (Db::code($error) !== Db::DUPLICATE) {
                throw $error;
            }
            [$rows] = Db::run($tx, "SELECT reason FROM half_barrier WHERE gid = ? AND branch = '' AND op = 'msg'", [$gid]);
            return $rows[0][0] === 'commit' ? 'committed' : 'rolled_back';
        } finally {
            $tx->exec('SET SESSION innodb_lock_wait_timeout = @rowpost_wait');
        }
    }

    /**
     * The check address, for a script of the web server: answers GET ?gid=GID with the bearer token of the relay's [producer]
     * section.
     *
     * @param callable(): PDO $connect
     */
    public static function answerCheck(callable $connect, string $token): void
    {
        header('Content-Type: application/json');
        $gid = $_GET['gid'] ?? null;
        if (!hash_equals("Bearer $token", $_SERVER['HTTP_AUTHORIZATION'] ?? '')) {
            http_response_code(401);
            echo '{}';
        } elseif (!is_string($gid) || $gid === '' || strlen($gid) > 128) {
            http_response_code(400);
            echo '{}';
        } else {
            try {
                echo json_encode(['state' => self::check($connect(), $gid)]);
            } catch (\Throwable) { // no answer that counts: the relay asks again
                http_response_code(503);
                echo '{}';
            }
        }
    }
}
