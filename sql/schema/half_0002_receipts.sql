-- Half-message side, version 2: a message of a half-message may ask for receipts, as one of the outbox may. See docs/receipts.md.
-- Safe to run by hand and safe to run again. Needs producer version 2 beside it. Instant, whatever is in the table.

-- As in producer_0002: neither server's ADD COLUMN can be repeated on both.
SET @obx_step = IF((SELECT COUNT(*) FROM information_schema.columns
        WHERE table_schema = DATABASE() AND table_name = 'half_part' AND column_name = 'receipt_from') > 0, 'DO 0',
    'ALTER TABLE half_part ADD COLUMN receipt_from VARCHAR(512) CHARACTER SET ascii COLLATE ascii_bin NULL, ADD COLUMN on_rejected VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL, ALGORITHM = INSTANT');
PREPARE obx_step FROM @obx_step;
EXECUTE obx_step;
DEALLOCATE PREPARE obx_step;

-- Last, so that a run that was cut off half-way is not taken for a whole one.
INSERT INTO oncebox_schema (side, version, name)
SELECT 'half', 2, 'half_0002_receipts' FROM DUAL
WHERE NOT EXISTS (SELECT 1 FROM oncebox_schema WHERE side = 'half' AND version = 2);
