<?php

declare(strict_types=1);

namespace Rowpost;

/** The relay has given no clear answer in time: perhaps done. Repeat it, or leave it to check-back. */
final class Unanswered extends \RuntimeException
{
}
