<?php

declare(strict_types=1);

namespace Rowpost;

/** Return or throw it in a handler: undone, and tried again after so many ms, a year at most (null: the queue's backoff). */
final class Retry extends \RuntimeException
{
    public const LONGEST_MS = 365 * 86400 * 1000;

    public readonly ?int $afterMs;

    public function __construct(string $reason = '', ?int $afterMs = null)
    {
        parent::__construct($reason);
        $this->afterMs = $afterMs === null ? null : max(0, min($afterMs, self::LONGEST_MS));
    }
}
