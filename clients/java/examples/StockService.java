import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.SQLException;
import org.mariadb.jdbc.MariaDbDataSource;
import rowpost.Inbox;
import rowpost.Outbox;

/** The stock service: takes orders from the inbox, and says through the outbox what it has reserved. */
public final class StockService {
    static Inbox.Verdict onOrder(Connection tx, Inbox.Message message) throws SQLException {
        String sql = "UPDATE stock SET on_hand = on_hand - JSON_EXTRACT(?, '$.quantity')"
                + " WHERE sku = JSON_UNQUOTE(JSON_EXTRACT(?, '$.sku'))";
        try (PreparedStatement update = tx.prepareStatement(sql)) {
            update.setString(1, message.text());
            update.setString(2, message.text());
            if (update.executeUpdate() == 0) {
                return Inbox.reject("no such article"); // an exception: undone, and tried again
            }
        }
        Outbox.add(tx, Outbox.message("stock.reserved", message.payload()).key(message.key()));
        return Inbox.done();
    }

    public static void main(String[] args) throws SQLException {
        MariaDbDataSource source = new MariaDbDataSource("jdbc:mariadb://" + System.getenv("DB_HOST") + ":" + System.getenv("DB_PORT")
                + "/" + System.getenv("DB_NAME"));
        source.setUser(System.getenv("DB_USER"));
        source.setPassword(System.getenv("DB_PASSWORD"));
        Inbox.Worker worker = new Inbox.Worker("stock", Inbox.on(source), StockService::onOrder);
        Thread main = Thread.currentThread();
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            worker.stop();
            try {
                main.join(); // the message in hand ends
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
            }
        }));
        worker.run(); // until SIGTERM
    }
}
