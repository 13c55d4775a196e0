package rowpost;

import java.io.IOException;
import java.net.DatagramPacket;
import java.net.DatagramSocket;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.security.SecureRandom;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.SQLException;
import java.time.Duration;
import java.time.Instant;
import java.time.LocalDateTime;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.util.Objects;
import java.util.UUID;
import java.util.regex.Pattern;

/** Sending: a row in the transaction of your own writes. It is published if, and only if, you commit. */
public final class Outbox {
    private static final Pattern TABLE = Pattern.compile("[A-Za-z0-9_.$-]{1,64}");
    private static final DateTimeFormatter DATETIME = DateTimeFormatter.ofPattern("yyyy-MM-dd HH:mm:ss.SSSSSS");
    private static final SecureRandom RANDOM = new SecureRandom();

    private Outbox() {
    }

    /**
     * What is sent: {@code Outbox.message("order.placed", json).key("k").receiptFrom("stock")}. Topic and payload are all that it
     * needs.
     */
    public static final class Message {
        final String topic;
        final byte[] payload;
        String key;
        String headers;
        String contentType = "application/json";
        String receiptFrom;
        String onRejected;
        String messageId;
        private String table = "outbox";
        private Instant deliverAt;
        private Duration deliverIn;

        private Message(String topic, byte[] payload) {
            this.topic = Objects.requireNonNull(topic);
            this.payload = Objects.requireNonNull(payload);
        }

        /** Messages of one key keep their order. */
        public Message key(String value) {
            key = value;
            return this;
        }

        /** A JSON object, as text. */
        public Message headers(String json) {
            headers = json;
            return this;
        }

        /** application/json if not given. */
        public Message contentType(String value) {
            contentType = value;
            return this;
        }

        /** The consumer groups that have to report it as applied, comma-separated. */
        public Message receiptFrom(String value) {
            receiptFrom = value;
            return this;
        }

        /** The topic of the compensation when one of them rejects it. */
        public Message onRejected(String value) {
            onRejected = value;
            return this;
        }

        /** Made if not given. */
        public Message messageId(String value) {
            messageId = value;
            return this;
        }

        /** For later: a point in time. Takes back {@link #deliverIn}. */
        public Message deliverAt(Instant value) {
            deliverAt = value;
            deliverIn = null;
            return this;
        }

        /** For later: from the database's now. Takes back {@link #deliverAt}. */
        public Message deliverIn(Duration value) {
            deliverIn = value;
            deliverAt = null;
            return this;
        }

        /** Another outbox table than "outbox". */
        public Message table(String value) {
            if (!TABLE.matcher(value).matches()) {
                throw new IllegalArgumentException(value + " cannot be the name of an outbox table");
            }
            table = value;
            return this;
        }
    }

    /** The payload is sent byte for byte. */
    public static Message message(String topic, byte[] payload) {
        return new Message(topic, payload);
    }

    /** The payload is sent as UTF-8. */
    public static Message message(String topic, String payload) {
        return new Message(topic, payload.getBytes(StandardCharsets.UTF_8));
    }

    /**
     * Adds a message in the transaction that is open on {@code tx} (under Spring: {@code DataSourceUtils.getConnection}), and
     * returns its id. Nothing is committed here.
     */
    public static String add(Connection tx, Message message) throws SQLException {
        boolean isLater = message.deliverAt != null || message.deliverIn != null;
        String id = message.messageId != null ? message.messageId : newMessageId();
        String mark = !isLater ? "" : message.deliverIn == null ? ", ?, ?" : ", ?, UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND";
        String sql = "INSERT INTO `" + (isLater ? "outbox_delayed" : message.table) + "` (message_id, topic, ordering_key, headers,"
                + " content_type, payload, receipt_from, on_rejected" + (isLater ? ", outbox, deliver_at" : "")
                + ") VALUES (?, ?, ?, ?, ?, ?, ?, ?" + mark + ")";
        try (PreparedStatement insert = tx.prepareStatement(sql)) {
            insert.setString(1, id);
            insert.setString(2, message.topic);
            insert.setString(3, message.key);
            insert.setString(4, message.headers);
            insert.setString(5, message.contentType);
            insert.setBytes(6, message.payload);
            insert.setString(7, message.receiptFrom);
            insert.setString(8, message.onRejected);
            if (isLater) {
                insert.setString(9, message.table);
                if (message.deliverIn != null) {
                    insert.setLong(10, message.deliverIn.toNanos() / 1000);
                } else {
                    // As text: a Timestamp would be sent in the zone of the JVM.
                    insert.setString(10, DATETIME.format(LocalDateTime.ofInstant(message.deliverAt, ZoneOffset.UTC)));
                }
            }
            insert.executeUpdate();
        }
        return id;
    }

    /**
     * After the commit: lets the relay look at once instead of at its next poll. Java has no Unix datagrams, so it has to listen on
     * its doorbell_address, host:port. A hint: false means that it was not reached and will look by itself.
     */
    public static boolean ring(String doorbell, String outbox) {
        int colon = doorbell.lastIndexOf(':');
        try (DatagramSocket bell = new DatagramSocket()) {
            byte[] name = outbox.getBytes(StandardCharsets.UTF_8);
            bell.send(new DatagramPacket(name, name.length,
                    new InetSocketAddress(doorbell.substring(0, Math.max(colon, 0)), Integer.parseInt(doorbell.substring(colon + 1)))));
            return true;
        } catch (IOException | IllegalArgumentException e) {
            return false;
        }
    }

    /** A UUID version 7: it never comes again, and sorts by time. */
    public static String newMessageId() {
        long high = System.currentTimeMillis() << 16 | 0x7000 | RANDOM.nextInt(0x1000);
        long low = RANDOM.nextLong() >>> 2 | Long.MIN_VALUE;
        return new UUID(high, low).toString();
    }
}
