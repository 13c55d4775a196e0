import com.sun.net.httpserver.HttpServer;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.SQLException;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Base64;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import javax.sql.DataSource;
import org.mariadb.jdbc.MariaDbDataSource;
import org.springframework.jdbc.core.JdbcTemplate;
import org.springframework.jdbc.datasource.DataSourceTransactionManager;
import org.springframework.transaction.TransactionDefinition;
import org.springframework.transaction.support.TransactionSynchronization;
import org.springframework.transaction.support.TransactionSynchronizationManager;
import org.springframework.transaction.support.TransactionTemplate;
import rowpost.Half;
import rowpost.Inbox;
import rowpost.Outbox;

/** The adapter of clients/java; see README.md. ROWPOST_SPRING: the worker under Spring's transactions. */
public final class Adapter {
    private static final PrintStream OUT = new PrintStream(new java.io.FileOutputStream(java.io.FileDescriptor.out), true, StandardCharsets.UTF_8);
    private final DataSource source;
    private final boolean isSpring = System.getenv("ROWPOST_SPRING") != null;
    private Inbox.Worker worker;
    private Thread thread;

    private Adapter() throws SQLException {
        Map<String, Object> at = Json.object(System.getenv("ROWPOST_DB"));
        MariaDbDataSource plain = new MariaDbDataSource("jdbc:mariadb://" + at.get("host") + ":" + at.get("port") + "/" + at.get("database")
                + "?sessionVariables=innodb_lock_wait_timeout=1");
        plain.setUser((String) at.get("user"));
        plain.setPassword((String) at.get("password"));
        source = plain;
    }

    private static void say(String event, String... pairs) {
        StringBuilder line = new StringBuilder("{\"event\":\"" + event + "\"");
        for (int i = 0; i < pairs.length; i += 2) {
            line.append(",\"").append(pairs[i]).append("\":").append(pairs[i + 1]);
        }
        OUT.println(line.append("}"));
    }

    private static Outbox.Message message(Map<String, Object> words) {
        Outbox.Message made = Outbox.message((String) words.get("topic"), Base64.getDecoder().decode((String) words.get("payload")))
                .key((String) words.get("key")).receiptFrom((String) words.get("receipt_from")).onRejected((String) words.get("on_rejected"))
                .messageId((String) words.get("message_id"));
        if (words.get("headers") != null) {
            made.headers(Json.text(words.get("headers")));
        }
        if (words.get("content_type") != null) {
            made.contentType((String) words.get("content_type"));
        }
        if (words.get("deliver_in_ms") != null) {
            made.deliverIn(Duration.ofMillis(((Number) words.get("deliver_in_ms")).longValue()));
        }
        if (words.get("deliver_at") != null) {
            made.deliverAt(Instant.ofEpochMilli(Math.round(((Number) words.get("deliver_at")).doubleValue() * 1000)));
        }
        return made;
    }

    @SuppressWarnings("unchecked")
    private static List<Outbox.Message> messages(Object list) {
        List<Outbox.Message> made = new ArrayList<>();
        if (list != null) {
            ((List<Object>) list).forEach(words -> made.add(message((Map<String, Object>) words)));
        }
        return made;
    }

    private static void end(Connection tx, Object how) throws SQLException {
        if (how.equals("commit")) {
            tx.commit();
        } else {
            tx.rollback();
        }
    }

    private void add(Map<String, Object> command) throws SQLException {
        List<Object> ids = new ArrayList<>();
        try (Connection tx = source.getConnection()) {
            tx.setAutoCommit(false);
            for (Outbox.Message message : messages(command.get("messages"))) {
                ids.add(Outbox.add(tx, message));
            }
            end(tx, command.get("end"));
        }
        say("added", "ids", Json.text(ids));
    }

    private void effect(Connection tx, Inbox.Message message, Map<String, Object> headers) throws Exception {
        Object[] values = {headers.get("queue"), message.messageId(), message.topic(), message.key(), message.contentType(),
            message.headers(), message.source(), message.traceparent(), message.attempt(), message.payload().length,
            HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(message.payload()))};
        String sql = "INSERT INTO effect (queue, message_id, topic, ordering_key, content_type, headers, source, traceparent, attempt, size, sha)"
                + " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
        if (isSpring) { // as a persistence context does: what is changed is kept back, and written by the commit
            TransactionSynchronizationManager.registerSynchronization(new TransactionSynchronization() {
                @Override
                public void beforeCommit(boolean isReadOnly) {
                    new JdbcTemplate(source).update(sql, values);
                }
            });
            return;
        }
        try (PreparedStatement insert = tx.prepareStatement(sql)) {
            for (int i = 0; i < values.length; i++) {
                insert.setObject(i + 1, values[i]);
            }
            insert.executeUpdate();
        }
    }

    private Inbox.Verdict handle(Connection tx, Inbox.Message message) throws Exception {
        say("handling", "message_id", Json.text(message.messageId()), "attempt", String.valueOf(message.attempt()));
        Map<String, Object> headers = message.headers() == null ? Map.of() : Json.object(message.headers());
        Object times = headers.get("times");
        String what = times != null && message.attempt() > ((Number) times).longValue() ? "" : String.valueOf(headers.get("do"));
        if (what.equals("lock")) {
            try (var statement = tx.createStatement()) {
                statement.execute("UPDATE contended SET n = n + 1 WHERE id = 1");
            }
        }
        effect(tx, message, headers);
        switch (what) {
            case "raise" -> {
                if (isSpring) { // a service of its own transaction, which joins this one and marks it as not to be committed
                    new TransactionTemplate(new DataSourceTransactionManager(source)).executeWithoutResult(status -> {
                        throw new IllegalStateException("boom");
                    });
                }
                throw new StackOverflowError("boom");
            }
            case "retry" -> throw new Inbox.VerdictException(Inbox.retry("later", Duration.ofMillis(50)));
            case "reject" -> throw new Inbox.VerdictException(Inbox.reject("never"));
            case "fatal" -> throw new OutOfMemoryError("boom");
            case "raise-odd" -> throw new IllegalStateException("odd \udcff" + "\ud83d\udd11".repeat(2000));
            case "rollback" -> {
                try (var statement = tx.createStatement()) {
                    statement.execute("ROLLBACK");
                }
            }
            case "hang" -> {
                say("hanging");
                Thread.sleep(1000);
            }
            case "die" -> {
                new ProcessBuilder("kill", "-KILL", String.valueOf(ProcessHandle.current().pid())).start();
                Thread.sleep(60_000);
            }
            default -> {
            }
        }
        return switch (what) {
            case "return-retry" -> Inbox.retry("later", Duration.ofMillis(50));
            case "return-reject" -> Inbox.reject("never");
            case "reject-odd" -> Inbox.reject(null);
            case "retry-odd" -> Inbox.retry(null, Duration.ofSeconds(Long.MIN_VALUE));
            default -> Inbox.done();
        };
    }

    private Inbox.Transactions transactions() {
        if (!isSpring) {
            return Inbox.on(source);
        }
        TransactionTemplate template = new TransactionTemplate(new DataSourceTransactionManager(source));
        template.setIsolationLevel(TransactionDefinition.ISOLATION_READ_COMMITTED);
        return body -> template.execute(status -> new JdbcTemplate(source).execute((Connection tx) -> body.run(tx)));
    }

    private void work(Map<String, Object> command) {
        worker = new Inbox.Worker((String) command.get("queue"), transactions(), this::handle)
                .onError((what, error) -> System.err.println(what + ": " + error));
        if (command.get("poll") != null) {
            worker.poll(Duration.ofMillis(Math.round(((Number) command.get("poll")).doubleValue() * 1000)));
        }
        if (command.get("follow") != null) {
            worker.follow(((Number) command.get("follow")).intValue());
        }
        thread = new Thread(() -> {
            try {
                worker.run();
            } catch (OutOfMemoryError e) {
                say("failed", "why", Json.text(e.toString()));
            }
        });
        thread.setDaemon(true);
        thread.start();
    }

    private static void callHalf(Map<String, Object> command) {
        Half.Client client = new Half.Client((String) command.get("url"), (String) command.get("token"));
        String gid = (String) command.get("gid");
        try {
            Half.State state = switch ((String) command.get("call")) {
                case "prepare" -> client.prepare(gid, (String) command.get("producer"), messages(command.get("commit")),
                        messages(command.get("rollback")));
                case "commit" -> client.commit(gid, !Boolean.TRUE.equals(command.get("async")));
                case "rollback" -> client.rollback(gid, !Boolean.TRUE.equals(command.get("async")));
                default -> client.lookup(gid);
            };
            say("answered", "state", Json.text(state.state()));
        } catch (Half.RefusedException e) {
            say("refused", "reason", Json.text(e.reason()), "status", String.valueOf(e.status()));
        }
    }

    private void local(Map<String, Object> command) throws SQLException {
        String outcome = command.get("end").equals("commit") ? "committed" : "rolled_back";
        try (Connection tx = source.getConnection()) {
            tx.setAutoCommit(false);
            try {
                Half.barrier(tx, (String) command.get("gid"));
                try (PreparedStatement insert = tx.prepareStatement("INSERT INTO effect (queue, message_id) VALUES ('local', ?)")) {
                    insert.setString(1, (String) command.get("gid"));
                    insert.executeUpdate();
                }
                end(tx, command.get("end"));
            } catch (Half.DecidedException e) {
                tx.rollback();
                outcome = "decided";
            }
        }
        say("local", "outcome", Json.text(outcome));
    }

    private void serve(Map<String, Object> command) throws Exception {
        HttpServer server = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0);
        server.createContext("/", Half.checkHandler(source, (String) command.get("token")));
        server.start();
        say("serving", "port", String.valueOf(server.getAddress().getPort()));
    }

    public static void main(String[] args) throws Exception {
        Adapter adapter = new Adapter();
        say("ready", "can", "[\"fatal\"]");
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            Map<String, Object> command = Json.object(line);
            switch ((String) command.get("do")) {
                case "add" -> adapter.add(command);
                case "ring" -> say("rang", "ok", String.valueOf(Outbox.ring((String) command.get("doorbell"), (String) command.get("outbox"))));
                case "work" -> adapter.work(command);
                case "stop" -> {
                    adapter.worker.stop();
                    adapter.thread.join();
                    say("stopped");
                }
                case "half" -> callHalf(command);
                case "local" -> adapter.local(command);
                default -> adapter.serve(command);
            }
        }
        System.exit(0);
    }
}
