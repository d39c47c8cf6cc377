//! Primary and foreign keys.

use arrow_flight::sql::{
    CommandGetCrossReference, CommandGetExportedKeys, CommandGetImportedKeys, CommandGetPrimaryKeys,
};

use super::{ask, rows, server_with};

const KEYS: &str = r#"
    CREATE TABLE part (a INTEGER, b INTEGER, u INTEGER UNIQUE, PRIMARY KEY (b, a));
    CREATE TABLE item (
        id INTEGER PRIMARY KEY, x INTEGER, y INTEGER, z INTEGER, boss INTEGER,
        FOREIGN KEY (x, y) REFERENCES PART (B, A), FOREIGN KEY (z) REFERENCES part (u),
        FOREIGN KEY (boss) REFERENCES item (id));
    CREATE SCHEMA s;
    CREATE TABLE s.part (id INTEGER PRIMARY KEY);
    CREATE TABLE s.item (part INTEGER REFERENCES s.part);
    CREATE TABLE "it's ""Ü""" ("a b" INTEGER PRIMARY KEY);
    CREATE TABLE "ü,." ("c ""d""" INTEGER REFERENCES "it's ""Ü""" ("a b"));
    CREATE TABLE twice (k INTEGER PRIMARY KEY, UNIQUE (k));
    CREATE TABLE of_twice (k INTEGER REFERENCES twice (k));
    CREATE TABLE keyless (x INTEGER)"#;

fn primary(schema: Option<&str>, table: &str) -> CommandGetPrimaryKeys {
    CommandGetPrimaryKeys { catalog: None, db_schema: schema.map(str::to_owned), table: table.to_owned() }
}

fn imported(schema: &str, table: &str) -> CommandGetImportedKeys {
    CommandGetImportedKeys { catalog: None, db_schema: Some(schema.to_owned()), table: table.to_owned() }
}

fn exported(schema: Option<&str>, table: &str) -> CommandGetExportedKeys {
    CommandGetExportedKeys { catalog: None, db_schema: schema.map(str::to_owned), table: table.to_owned() }
}

/// `pk table.column <- fk table.column sequence fk_name pk_name`, each in its schema; the rules apart.
fn foreign(row: &[String]) -> String {
    assert_eq!((&row[0], &row[4]), (&"test".to_owned(), &"test".to_owned()), "the catalogs");
    assert_eq!(row[11..], ["3", "3"], "DuckDB has no other rule than NO ACTION");
    format!(
        "{}.{}.{} <- {}.{}.{} {} {} {}",
        row[1], row[2], row[3], row[5], row[6], row[7], row[8], row[9], row[10]
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn primary_keys_keep_the_order_of_their_columns() {
    let server = server_with(KEYS).await;
    let mut flight = server.flight().await;
    let key = |schema: &str, table: &str, column: &str, name: &str, sequence: &str| {
        ["test", schema, table, column, name, sequence].map(str::to_owned).to_vec()
    };
    let both = [
        key("main", "part", "b", "part_b_a_pkey", "1"),
        key("main", "part", "a", "part_b_a_pkey", "2"),
        key("s", "part", "id", "part_id_pkey", "1"),
    ];
    assert_eq!(rows(&ask(&mut flight, &primary(None, "part")).await), both);
    assert_eq!(rows(&ask(&mut flight, &primary(Some("main"), "part")).await), both[..2]);
    let quoted = rows(&ask(&mut flight, &primary(None, r#"it's "Ü""#)).await);
    assert_eq!(quoted, [key("main", r#"it's "Ü""#, "a b", r#"it's "Ü"_a b_pkey"#, "1")]);
    for table in ["keyless", "no such table", "par%", ""] {
        assert!(rows(&ask(&mut flight, &primary(None, table)).await).is_empty(), "{table}");
    }
    assert!(rows(&ask(&mut flight, &primary(Some(""), "part")).await).is_empty());
    let elsewhere = CommandGetPrimaryKeys { catalog: Some("other".into()), ..primary(None, "part") };
    assert!(rows(&ask(&mut flight, &elsewhere).await).is_empty());
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn imported_keys_name_both_ends_as_they_were_created() {
    let server = server_with(KEYS).await;
    let mut flight = server.flight().await;
    let keys = rows(&ask(&mut flight, &imported("main", "item")).await);
    let keys: Vec<_> = keys.iter().map(|row| foreign(row)).collect();
    assert_eq!(
        keys,
        [
            "main.item.id <- main.item.boss 1 item_boss_id_fkey item_id_pkey",
            "main.part.b <- main.item.x 1 item_x_y_b_a_fkey part_b_a_pkey",
            "main.part.a <- main.item.y 2 item_x_y_b_a_fkey part_b_a_pkey",
            "main.part.u <- main.item.z 1 item_z_u_fkey part_u_key",
        ]
    );
    let keys = rows(&ask(&mut flight, &imported("s", "item")).await);
    assert_eq!(foreign(&keys[0]), "s.part.id <- s.item.part 1 item_part_id_fkey part_id_pkey");
    assert_eq!(keys.len(), 1, "a table of the same name in another schema is another one");
    let keys = rows(&ask(&mut flight, &imported("main", "ü,.")).await);
    assert_eq!(keys.len(), 1);
    assert_eq!(&keys[0][2..4], [r#"it's "Ü""#, "a b"]);
    assert_eq!(&keys[0][6..8], ["ü,.", r#"c "d""#]);
    let keys = rows(&ask(&mut flight, &imported("main", "of_twice")).await);
    assert_eq!(foreign(&keys[0]), "main.twice.k <- main.of_twice.k 1 of_twice_k_k_fkey twice_k_pkey");
    assert_eq!(keys.len(), 1, "a key that is UNIQUE too is referred to once");
    assert!(rows(&ask(&mut flight, &imported("main", "part")).await).is_empty());
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exported_keys_are_those_that_refer_to_the_table() {
    let server = server_with(KEYS).await;
    let mut flight = server.flight().await;
    let keys = rows(&ask(&mut flight, &exported(None, "part")).await);
    let keys: Vec<_> = keys.iter().map(|row| foreign(row)).collect();
    let keys: Vec<_> = keys.iter().map(String::as_str).collect();
    assert_eq!(
        keys,
        [
            "main.part.b <- main.item.x 1 item_x_y_b_a_fkey part_b_a_pkey",
            "main.part.a <- main.item.y 2 item_x_y_b_a_fkey part_b_a_pkey",
            "main.part.u <- main.item.z 1 item_z_u_fkey part_u_key",
            "s.part.id <- s.item.part 1 item_part_id_fkey part_id_pkey",
        ]
    );
    assert!(rows(&ask(&mut flight, &exported(Some("main"), "keyless")).await).is_empty());
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cross_reference_is_between_two_tables() {
    let server = server_with(KEYS).await;
    let mut flight = server.flight().await;
    let between = |primary: &str, foreign: &str| CommandGetCrossReference {
        pk_table: primary.to_owned(),
        fk_table: foreign.to_owned(),
        pk_db_schema: Some("main".into()),
        fk_db_schema: Some("main".into()),
        fk_catalog: Some("test".into()),
        pk_catalog: Some("test".into()),
    };
    for (primary, foreign, columns) in [("part", "item", 3), ("item", "item", 1), ("item", "part", 0)] {
        let keys = rows(&ask(&mut flight, &between(primary, foreign)).await);
        assert_eq!(keys.len(), columns, "{primary} <- {foreign}");
        assert!(keys.iter().all(|row| row[2] == primary && row[6] == foreign));
    }
    server.shutdown().await;
}
