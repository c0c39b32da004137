//! Hosts that are known by name: found, kept, and found anew when they move.

use testkit::{
    FakeClient, FakeDns, FakeServer, Message, Pooler, PoolerSetup, eventually, eventually_async,
};

use crate::support::{Road, WORKERS, client, clients, trusting};

/// What the log says of a server whose host's name leads elsewhere.
const MOVED: &str = "closing because: obsolete connection";

/// Servers on one port of two addresses, for names that a DNS server of our own knows.
struct Scene {
    dns: FakeDns,
    here: FakeServer,
    there: FakeServer,
    _road: Road,
}

const HERE: &str = "127.0.0.1";
const THERE: &str = "127.0.0.2";

impl Scene {
    async fn start() -> Self {
        let (here, there) = (FakeServer::start().await, FakeServer::start().await);
        let address = format!("{THERE}:{}", here.port());
        let road = Road::from(&address, there.port()).await;
        Self {
            dns: FakeDns::start().await,
            here,
            there,
            _road: road,
        }
    }

    /// A pooler with the database `app` on these hosts.
    fn before(&self, hosts: &str, workers: u32) -> PoolerSetup {
        let port = self.here.port();
        trusting(workers)
            .database("app", &format!("host={hosts} port={port} dbname=app"))
            .set("resolv_conf", self.dns.resolv_conf().display())
    }

    async fn wait_until_asked(&self, name: &str, more: usize) {
        let goal = self.dns.asked(name) + more;
        eventually("the name to be looked up again", || {
            self.dns.asked(name) >= goal
        })
        .await;
    }
}

#[tokio::test]
async fn a_name_that_leads_elsewhere_takes_its_servers_along() {
    for workers in WORKERS {
        let scene = Scene::start().await;
        scene.dns.set("db.test", &[HERE]);
        let setup = scene.before("db.test", workers).set("dns_max_ttl", 1000);
        let mut pooler = setup.start().await;
        let [mut is_idle, mut in_transaction] = clients(&pooler).await;
        in_transaction.query("BEGIN").await;
        is_idle.query("SELECT 1").await;
        assert_eq!([scene.here.logged_in(), scene.there.logged_in()], [2, 0]);

        scene.dns.set("db.test", &[THERE]);
        pooler.reload(|setup| setup.set("dns_max_ttl", 0.1)).await;

        // Nobody needs a server: those that are idle go all the same.
        pooler.wait_for_log(MOVED).await;
        is_idle.query("SELECT 1").await;
        assert_eq!([scene.here.logged_in(), scene.there.logged_in()], [1, 1]);
        in_transaction.query("COMMIT").await;
        scene.here.wait_for_logged_in(0).await;
        // The server goes before the log says so.
        pooler.wait_for_log_count(MOVED, 2).await;
        assert_eq!(pooler.log_count(MOVED), 2);
    }
}

#[tokio::test]
async fn of_a_list_the_host_that_moved_loses_its_servers_and_no_other() {
    for workers in WORKERS {
        let scene = Scene::start().await;
        scene.dns.set("one.test", &[HERE]);
        scene.dns.set("two.test", &[THERE]);
        let pooler = scene
            .before("one.test,two.test", workers)
            .set("dns_max_ttl", 0.1)
            .start()
            .await;
        let [mut first, mut second] = clients(&pooler).await;
        first.query("BEGIN").await;
        second.query("BEGIN").await;
        first.query("COMMIT").await;
        second.query("COMMIT").await;
        assert_eq!([scene.here.logged_in(), scene.there.logged_in()], [1, 1]);

        scene.dns.set("two.test", &[HERE]);

        scene.there.wait_for_logged_in(0).await;
        scene.wait_until_asked("one.test", 1).await;
        assert_eq!(scene.here.logged_in(), 1);
        pooler.wait_for_log_count(MOVED, 1).await;
        assert_eq!(pooler.log_count(MOVED), 1);
    }
}

#[tokio::test]
async fn the_addresses_of_a_name_take_turns_and_one_that_does_not_answer_is_left_out() {
    for workers in WORKERS {
        let scene = Scene::start().await;
        scene.dns.set("db.test", &[HERE, THERE, "127.0.0.3"]);
        let pooler = scene.before("db.test", workers).start().await;

        let mut clients = clients::<6>(&pooler).await;
        for client in &mut clients {
            client.query("BEGIN").await;
        }

        let [here, there] = [scene.here.logged_in(), scene.there.logged_in()];
        assert_eq!(here + there, 6);
        assert!(here >= 2 && there >= 2, "{here} and {there}");
        assert_eq!(scene.dns.asked("db.test"), 1);
    }
}

#[tokio::test]
async fn a_failed_look_up_is_kept_for_dns_nxdomain_ttl() {
    const FAILED: &str = "closing because: server DNS lookup failed";
    for workers in WORKERS {
        let scene = Scene::start().await;
        let mut pooler = scene
            .before("late.test", workers)
            .set("dns_nxdomain_ttl", 1000)
            .start()
            .await;
        let mut early = FakeClient::connect(&pooler.address()).await;
        early
            .startup(&[("user", "alice"), ("database", "app")])
            .await;
        pooler.wait_for_log_count(FAILED, 2).await;
        let words = "server DNS lookup failed: no such name at late.test";
        assert!(pooler.log_count(words) >= 2);
        scene.dns.set("late.test", &[HERE]);
        let tried = pooler.log_count(FAILED);
        pooler.wait_for_log_count(FAILED, tried + 1).await;
        assert_eq!(scene.dns.asked("late.test"), 1);

        pooler
            .reload(|setup| setup.set("dns_nxdomain_ttl", 0))
            .await;

        early.read_auth_ok().await;
        early.read_welcome().await;
        early.query("SELECT 1").await;
    }
}

#[tokio::test]
async fn a_zone_with_a_new_serial_number_has_its_names_looked_up_at_once() {
    for workers in WORKERS {
        let scene = Scene::start().await;
        scene.dns.set("db.zone.test", &[HERE]);
        scene.dns.set_serial(1);
        let mut pooler = scene
            .before("db.zone.test", workers)
            .set("dns_max_ttl", 1000)
            .start()
            .await;
        pooler
            .reload(|setup| setup.set("dns_zone_check_period", 0.1))
            .await;
        client(&pooler, "alice").await.query("SELECT 1").await;
        let is_asked = |times| {
            let dns = &scene.dns;
            eventually("the zone to be asked", move || {
                dns.asked_for_serial("zone.test") >= times
            })
        };
        is_asked(1).await;
        scene.dns.set("db.zone.test", &[THERE]);
        is_asked(2).await;
        assert_eq!(scene.dns.asked("db.zone.test"), 1);

        scene.dns.set_serial(2);

        pooler.wait_for_log(MOVED).await;
        assert_eq!(scene.dns.asked("db.zone.test"), 2);
        assert_eq!(in_cache(&pooler).await, [1, 1]);
        let console = pooler.console().await;
        console.run("SET dns_zone_check_period = 0").await;
        eventually_async("the zone to be forgotten", async || {
            in_cache(&pooler).await[1] == 0
        })
        .await;
    }
}

/// Names and zones, as the console counts them.
async fn in_cache(pooler: &Pooler) -> [i64; 2] {
    let lists = pooler.console().await.show("LISTS").await;
    ["dns_names", "dns_zones"].map(|name| {
        let row = lists.iter().find(|row| row.get("list") == Some(name));
        row.unwrap().number("items")
    })
}

#[tokio::test]
async fn a_dns_server_that_is_silent_harms_nobody_whose_host_is_known() {
    for workers in WORKERS {
        let scene = Scene::start().await;
        scene.dns.set("db.test", &[HERE]);
        let pooler = scene
            .before("db.test", workers)
            .set("dns_max_ttl", 0.1)
            .set("dns_nxdomain_ttl", 0.1)
            .start()
            .await;
        let [mut first, mut second] = clients(&pooler).await;
        first.query("BEGIN").await;
        scene.dns.set_silent(true);
        scene.wait_until_asked("db.test", 1).await;

        second.send(Message::query("BEGIN")).await;

        second.read_until_ready().await;
        first.query("COMMIT").await;
        assert_eq!(scene.here.logged_in(), 2);
        assert_eq!(pooler.log_count(MOVED), 0);
    }
}

#[tokio::test]
async fn the_hosts_file_is_asked_before_any_server() {
    for workers in WORKERS {
        let scene = Scene::start().await;
        let pooler = scene.before("localhost", workers).start().await;
        client(&pooler, "alice").await.query("SELECT 1").await;
        assert_eq!(scene.dns.asked("localhost"), 0);
    }
}
