//! The status page, in a real browser.

use std::path::Path;

use testkit::{Browser, FakeClient, FakeServer, eventually_async};

use super::told;
use crate::support::{WORKERS, alice, client, wait_for_waiting};

#[tokio::test]
async fn the_page_draws_seats_and_the_line_and_follows_what_happens() {
    let fake = FakeServer::start().await;
    let pooler = told(&fake, 3)
        .set("default_pool_size", 3)
        .set("reserve_pool_size", 1)
        .set("reserve_pool_timeout", 0)
        .database("shop", &fake.conn_info("shop"))
        .start()
        .await;
    let mut browser = Browser::start().await;
    browser
        .open(&format!("http://127.0.0.1:{}/", pooler.metrics_port()))
        .await;
    browser
        .wait_until("document.getElementById('state').textContent === 'active'")
        .await;
    let mut busy = Vec::new();
    for _ in 0..3 {
        let mut client = alice(&pooler).await;
        client.query("BEGIN").await;
        busy.push(client);
    }
    let seats = |kind: &str| {
        format!("document.querySelectorAll('[data-pool=\"app/alice\"] .seat.{kind}').length")
    };
    browser
        .wait_until(&format!("{} === 3", seats("active")))
        .await;
    assert_eq!(browser.value(&seats("reserve")).await, 1);

    let waiting: Vec<_> = (0..4)
        .map(|_| {
            let address = pooler.address();
            tokio::spawn(async move {
                let mut client = FakeClient::login_trust(&address, "alice", "app").await;
                client.query("SELECT 1").await
            })
        })
        .collect();
    wait_for_waiting(&pooler, 4).await;
    let line = "document.querySelectorAll('[data-pool=\"app/alice\"] .queue i').length";
    browser.wait_until(&format!("{line} === 4")).await;
    let holders = "document.querySelectorAll('#holders tr').length";
    assert_eq!(browser.value(holders).await, 3);

    for client in &mut busy {
        client.query("COMMIT").await;
    }
    for client in waiting {
        client.await.unwrap();
    }
    browser.wait_until(&format!("{line} === 0")).await;
    browser
        .wait_until(&format!("{} === 0", seats("active")))
        .await;
    // The plots come with the second sample.
    let plotted = "document.querySelectorAll('#plots svg path.c0').length >= 4";
    browser.wait_until(plotted).await;
    // All that it loaded came from here.
    let foreign = "performance.getEntriesByType('resource')\
                   .filter(it => !it.name.startsWith(location.origin)).length";
    assert_eq!(browser.value(foreign).await, 0);
}

#[tokio::test]
async fn the_page_fits_a_phone_and_shows_words_of_clients_as_words() {
    let fake = FakeServer::start().await;
    let pooler = told(&fake, 1).start().await;
    let mut rude = FakeClient::connect(&pooler.address()).await;
    let name = "<img src=x onerror=\"document.title='taken over'\">";
    let names = [
        ("user", "alice"),
        ("database", "app"),
        ("application_name", name),
    ];
    rude.startup(&names).await;
    rude.read_until_ready().await;
    rude.query("BEGIN").await;
    let mut browser = Browser::start().await;
    browser.resize(360, 740, "dark").await;
    browser
        .open(&format!("http://127.0.0.1:{}/", pooler.metrics_port()))
        .await;
    browser
        .wait_until("document.querySelectorAll('#holders td').length === 5")
        .await;
    let shown = "document.querySelector('#holders td:nth-child(4)').textContent";
    assert_eq!(browser.value(shown).await, name);
    assert_eq!(browser.value("document.title").await, "pgusher");
    let fits = "document.documentElement.scrollWidth <= window.innerWidth";
    assert_eq!(browser.value(fits).await, true);
    let dark = "getComputedStyle(document.body).backgroundColor";
    let night = browser.value(dark).await;
    browser.resize(360, 740, "light").await;
    assert_ne!(browser.value(dark).await, night);
}

#[tokio::test]
async fn nothing_on_the_page_is_secret() {
    for workers in WORKERS {
        let fake = FakeServer::start().await;
        let secret = "hush-hush";
        let conn_info = format!("{} password={secret}", fake.conn_info("shop"));
        let pooler = told(&fake, workers)
            .user("alice", secret)
            .database("shop", &conn_info)
            .set("auth_ldap_options", format!("ldapbindpasswd={secret}"))
            .start()
            .await;
        client(&pooler, "alice").await.query_value("SELECT 1").await;
        eventually_async("a pool on the page", async || {
            let page = pooler.page("/status.json").await.body;
            page.contains("\"database\":\"app\"")
        })
        .await;
        for path in ["/", "/status.json", "/metrics", "/readyz"] {
            let page = pooler.page(path).await;
            assert_eq!(page.status, 200);
            assert!(!page.body.contains(secret), "{path}: {}", page.body);
        }
    }
}

/// For whoever wants to see it: `PGUSHER_PICTURES=/a/directory` keeps pictures of a busy page.
#[tokio::test]
async fn pictures_can_be_taken_of_a_busy_page() {
    let fake = FakeServer::start().await;
    let pooler = told(&fake, 1).set("default_pool_size", 8).start().await;
    let mut clients = Vec::new();
    for (user, count) in [("alice", 8), ("bob", 3)] {
        for _ in 0..count {
            let mut client = client(&pooler, user).await;
            client.query("BEGIN").await;
            clients.push(client);
        }
    }
    let mut browser = Browser::start().await;
    browser
        .open(&format!("http://127.0.0.1:{}/", pooler.metrics_port()))
        .await;
    browser
        .wait_until("document.querySelectorAll('.card.pool').length === 2")
        .await;
    let scratch = testkit::Scratch::new("pictures").unwrap();
    let kept = std::env::var_os("PGUSHER_PICTURES");
    let dir = kept.as_deref().map_or(scratch.path(), Path::new);
    for (name, width, height, colours) in [
        ("light.png", 1200, 1100, "light"),
        ("phone.png", 390, 844, "dark"),
    ] {
        browser.resize(width, height, colours).await;
        let file = dir.join(name);
        browser.picture(&file).await;
        assert!(std::fs::metadata(&file).unwrap().len() > 10_000, "{name}");
    }
}
