<?php

declare(strict_types=1);

namespace Rowpost;

use DateTimeImmutable;
use DateTimeInterface;
use DateTimeZone;
use PDO;

/** Sending: a row in the transaction of your own writes. It is published if, and only if, you commit. */
final class Outbox
{
    /**
     * Adds a message in the transaction that is open on $tx, and returns its id. Nothing is committed here.
     *
     * @param string|array<mixed> $payload sent byte for byte; an array as JSON
     * @param ?string $key messages of one key keep their order
     * @param array<string, mixed>|null $headers
     * @param DateTimeInterface|int|null $deliverAt for later: a point in time, or milliseconds from the database's now
     * @param ?string $receiptFrom consumer groups that have to report it as applied, comma-separated
     * @param ?string $onRejected topic of the compensation when one of them rejects it
     * @param string $table another outbox table
     */
    public static function add(
        PDO $tx,
        string $topic,
        string|array $payload,
        ?string $key = null,
        ?array $headers = null,
        string $contentType = 'application/json',
        DateTimeInterface|int|null $deliverAt = null,
        ?string $receiptFrom = null,
        ?string $onRejected = null,
        ?string $messageId = null,
        string $table = 'outbox',
    ): string {
        if (!preg_match('/^[A-Za-z0-9_.$-]{1,64}$/D', $table)) {
            throw new \InvalidArgumentException("$table cannot be the name of an outbox table");
        }
        $row = [
            'message_id' => $messageId ?? self::newMessageId(),
            'topic' => $topic,
            'ordering_key' => $key,
            // (object): a list, or nothing, is no JSON object. ASCII: the same text in whatever character set the connection has.
            'headers' => $headers === null ? null : json_encode((object) $headers, JSON_THROW_ON_ERROR | JSON_PRESERVE_ZERO_FRACTION),
            'content_type' => $contentType,
            'payload' => is_array($payload) ? json_encode($payload, JSON_THROW_ON_ERROR | JSON_PRESERVE_ZERO_FRACTION) : $payload,
            'receipt_from' => $receiptFrom,
            'on_rejected' => $onRejected,
        ];
        $marks = array_fill(0, count($row), '?');
        if ($deliverAt !== null) {
            $row['outbox'] = $table;
            $table = 'outbox_delayed';
            $row['deliver_at'] = is_int($deliverAt) ? $deliverAt * 1000 : DateTimeImmutable::createFromInterface($deliverAt)
                ->setTimezone(new DateTimeZone('UTC'))->format('Y-m-d H:i:s.u');
            array_push($marks, '?', is_int($deliverAt) ? 'UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND' : '?');
        }
        $sql = sprintf('INSERT INTO `%s` (%s) VALUES (%s)', $table, implode(', ', array_keys($row)), implode(', ', $marks));
        Db::run($tx, $sql, array_values($row));
        return $row['message_id'];
    }

    /**
     * After the commit: lets the relay look at once instead of at its next poll. $doorbell is its doorbell_socket, or host:port.
     * A hint: false means that it was not reached and will look by itself.
     */
    public static function ring(string $doorbell, string $outbox = ''): bool
    {
        $address = str_contains($doorbell, '/') ? "udg://$doorbell" : "udp://$doorbell";
        $bell = @stream_socket_client($address, $code, $text, 1);
        if ($bell === false) {
            return false;
        }
        stream_set_blocking($bell, false);
        $sent = @fwrite($bell, $outbox === '' ? "\n" : $outbox);
        fclose($bell);
        return $sent !== false && $sent > 0;
    }

    /** A UUID version 7: it never comes again, and sorts by time. */
    public static function newMessageId(): string
    {
        $id = substr(pack('J', (int) (microtime(true) * 1000)), 2) . random_bytes(10);
        $id[6] = chr(ord($id[6]) & 0x0f | 0x70);
        $id[8] = chr(ord($id[8]) & 0x3f | 0x80);
        return vsprintf('%s%s-%s-%s-%s-%s%s%s', str_split(bin2hex($id), 4));
    }
}
