//! A database that answers with errors.

use super::*;

#[tokio::test]
async fn trouble_is_told_until_it_is_over() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.trouble().await, None);
    let broken = |table: &str| {
        format!("CREATE TRIGGER broken BEFORE INSERT ON {table} BEGIN SELECT RAISE(ABORT, 'induced'); END")
    };
    store.sql(&broken("journal")).await.unwrap();
    let append = async || store.append(batch(vec![found("r", "alice", 1)])).await;
    assert!(matches!(append().await, Err(StoreError::Database(_))));
    for _ in 0..2 {
        let told = store.trouble().await.unwrap();
        assert!(told.contains("induced") && told.ends_with("batches are refused"), "{told}");
    }
    store.sql("DROP TRIGGER broken").await.unwrap();
    assert_eq!(store.trouble().await, None, "found without another batch");
    assert_eq!(store.journal_backlog().await.unwrap(), 0, "looking leaves nothing behind");
    append().await.unwrap();
    assert_eq!(store.journal_after(0, 10).await.unwrap().len(), 1);

    store.sql(&broken("alerts")).await.unwrap();
    let written = async || store.commit(commit(vec![change(&alert("a", 1), Kind::Firing, &[])])).await;
    assert!(written().await.is_err());
    assert!(store.trouble().await.is_some_and(|told| told.ends_with("alerts wait to be written")));
    store.sql("DROP TRIGGER broken").await.unwrap();
    written().await.unwrap();
    assert_eq!(store.trouble().await, None);
}
