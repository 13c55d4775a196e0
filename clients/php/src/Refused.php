<?php

declare(strict_types=1);

namespace Rowpost;

/** The relay has said no to a half-message: reason is already_committed, gid_reused, unknown_gid, ... */
final class Refused extends \RuntimeException
{
    /** @param array<string, mixed> $answer */
    public function __construct(public readonly int $status, public readonly array $answer)
    {
        parent::__construct("$status {$this->reason()}: " . ($answer['error']['message'] ?? ''));
    }

    public function reason(): string
    {
        return $this->answer['error']['reason'] ?? '';
    }
}
