// JDBC at the console, in every mode that it can ask in.
//
// Usage: java -cp postgresql.jar Console.java, with PGHOST and PGPORT set.

import java.sql.*;
import java.util.*;

public class Console {
    public static void main(String[] args) throws Exception {
        String place = System.getenv("PGHOST") + ":" + System.getenv("PGPORT");
        List<String> modes =
                List.of("simple", "extended", "extendedForPrepared", "extendedCacheEverything");
        for (String mode : modes) {
            String url = "jdbc:postgresql://" + place + "/pgbouncer?preferQueryMode=" + mode;
            try (Connection c = DriverManager.getConnection(url, "testkit_admin", "testkit_admin")) {
                looks(c);
                if (!mode.equals("simple")) {
                    commands(c);
                }
            } catch (SQLException error) {
                throw new AssertionError(mode, error);
            }
        }
        System.out.println("all " + modes.size() + " checks hold");
    }

    /** More often than it takes to prepare a statement, and to ask for binary results. */
    static void looks(Connection c) throws SQLException {
        for (int n = 0; n < 8; n++) {
            try (PreparedStatement show = c.prepareStatement("SHOW POOLS");
                    ResultSet pools = show.executeQuery()) {
                boolean found = false;
                while (pools.next()) {
                    found |= pools.getString(1).equals("pgbouncer") && pools.getInt(3) == 1;
                }
                check(found, "no pool of the console's");
            }
        }
    }

    static void commands(Connection c) throws SQLException {
        check(c.isValid(10), "not valid");
        try (PreparedStatement show = c.prepareStatement("SHOW STATE")) {
            show.setMaxRows(2);
            ResultSet state = show.executeQuery();
            check(state.next() && state.next() && !state.next(), "not two rows");
        }
        try (PreparedStatement set = c.prepareStatement("SET default_pool_size = ?")) {
            set.setString(1, "7");
            set.execute();
        }
        try (PreparedStatement kill = c.prepareStatement("KILL_CLIENT ?")) {
            kill.setLong(1, 1L << 40);
            kill.execute();
            check(false, "it was there");
        } catch (SQLException error) {
            check(error.getMessage().contains("client not found"), error.getMessage());
        }
    }

    static void check(boolean holds, String otherwise) {
        if (!holds) {
            throw new AssertionError(otherwise);
        }
    }
}
