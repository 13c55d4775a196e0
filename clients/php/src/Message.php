<?php

declare(strict_types=1);

namespace Rowpost;

/** One message of the inbox. Texts are bytes as they came; attempt is 1 for the first try. */
final class Message
{
    /** @param array<string, mixed> $headers */
    public function __construct(
        public readonly int $id,
        public readonly string $messageId,
        public readonly string $topic,
        public readonly ?string $key,
        public readonly ?string $contentType,
        public readonly array $headers,
        public readonly ?string $rawHeaders,
        public readonly ?string $source,
        public readonly ?string $traceparent,
        public readonly ?\DateTimeImmutable $createdAt,
        public readonly \DateTimeImmutable $receivedAt,
        public readonly int $attempt,
        public readonly int $maxAttempts,
        public readonly string $payload,
    ) {
    }

    /** The payload as JSON, objects as arrays. */
    public function json(): mixed
    {
        return json_decode($this->payload, true, flags: JSON_THROW_ON_ERROR | JSON_BIGINT_AS_STRING);
    }
}
