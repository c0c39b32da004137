//! From each setting to the conversation that shows what it does.

/// Settings that act, and the test of each one's effect: `module::function` in `tests/integration`.
pub(crate) const EFFECTS: &[(&str, &str)] = &[
    (
        "admin_users",
        "auth::clients::the_console_is_for_admins_and_for_those_who_may_look",
    ),
    (
        "application_name_add_host",
        "auth::startup::application_names_carry_the_clients_address_if_asked_to",
    ),
    (
        "auth_file",
        "config::files::a_userlist_counts_up_to_its_first_broken_line_which_the_log_names",
    ),
    (
        "auth_type",
        "auth::clients::every_method_takes_the_secrets_that_it_can_check",
    ),
    (
        "autodb_idle_timeout",
        "pooling::an_auto_database_is_forgotten_once_nobody_has_used_it_for_long",
    ),
    (
        "cancel_wait_timeout",
        "cancel::a_cancel_that_waits_for_its_turn_too_long_is_given_up",
    ),
    (
        "client_idle_timeout",
        "timeouts::clients::client_idle_timeout_ends_a_client_that_is_silent_without_a_server",
    ),
    (
        "client_login_timeout",
        "auth::admission::a_login_that_takes_too_long_is_ended_wherever_it_stands",
    ),
    (
        "default_pool_size",
        "limits::four_workers_and_two_hundred_clients_fill_the_pool_exactly",
    ),
    (
        "disable_pqexec",
        "protocol::refusals::disable_pqexec_leaves_the_extended_protocol",
    ),
    (
        "idle_transaction_timeout",
        "timeouts::servers::idle_transaction_timeout_ends_a_transaction_that_idles",
    ),
    (
        "ignore_startup_parameters",
        "auth::startup::ignored_startup_parameters_are_dropped_wherever_they_stand",
    ),
    (
        "listen_addr",
        "config::process::one_address_that_can_not_be_had_is_a_warning_and_none_at_all_is_the_end",
    ),
    (
        "listen_port",
        "config::files::the_files_that_people_have_run",
    ),
    (
        "logfile",
        "config::process::a_quiet_process_writes_to_its_log_file_alone",
    ),
    (
        "login_notify_message",
        "auth::startup::the_welcome_is_the_servers_with_the_clients_own_values_and_a_notice",
    ),
    (
        "max_client_conn",
        "auth::admission::one_client_too_many_is_told_so_unless_it_goes_to_the_console",
    ),
    (
        "max_db_client_connections",
        "auth::admission::clients_of_a_database_and_of_a_user_are_limited_over_all_workers",
    ),
    (
        "max_db_connections",
        "limits::overrides::max_db_connections_of_a_database_beats_the_one_for_all",
    ),
    (
        "max_packet_size",
        "protocol::refusals::an_offence_ends_the_offender_and_nobody_else",
    ),
    (
        "max_user_client_connections",
        "auth::admission::clients_of_a_database_and_of_a_user_are_limited_over_all_workers",
    ),
    (
        "max_user_connections",
        "limits::overrides::max_user_connections_of_a_user_beats_the_one_for_all",
    ),
    (
        "min_pool_size",
        "pooling::ageing::a_minimum_of_servers_is_kept_while_clients_are_there",
    ),
    (
        "pidfile",
        "config::process::the_pid_file_names_the_process_and_goes_with_it",
    ),
    (
        "pool_mode",
        "console::settings::a_changed_pool_mode_holds_from_the_next_transaction_on",
    ),
    (
        "query_timeout",
        "timeouts::servers::query_timeout_ends_a_running_query_and_cancels_it",
    ),
    (
        "query_wait_notify",
        "timeouts::waiting::query_wait_notify_tells_a_waiting_client_once",
    ),
    (
        "query_wait_timeout",
        "timeouts::waiting::query_wait_timeout_ends_the_wait_and_leaves_the_holder_alone",
    ),
    (
        "reserve_pool_size",
        "limits::reserve::the_reserve_serves_whoever_waited_long_and_never_more_than_it_has",
    ),
    (
        "reserve_pool_timeout",
        "limits::reserve::a_reserve_timeout_of_zero_keeps_the_reserve_shut",
    ),
    (
        "scram_iterations",
        "auth::clients::an_unknown_user_gets_the_same_salt_every_time_as_a_known_one_does",
    ),
    (
        "server_check_delay",
        "pooling::probes::a_server_that_idled_is_probed_with_an_empty_query_before_its_next_use",
    ),
    (
        "server_check_query",
        "pooling::probes::the_check_query_is_the_one_that_was_asked_for",
    ),
    (
        "server_connect_timeout",
        "timeouts::servers::server_connect_timeout_gives_up_a_login_and_the_client_waits_on",
    ),
    (
        "server_idle_timeout",
        "pooling::ageing::idle_servers_close_down_to_the_minimum",
    ),
    (
        "server_lifetime",
        "pooling::ageing::servers_past_their_lifetime_are_closed_one_after_the_other",
    ),
    (
        "server_login_retry",
        "limits::logins::waiting_clients_are_served_once_the_server_is_back",
    ),
    (
        "server_reset_query",
        "pooling::modes::the_reset_query_is_the_one_that_was_asked_for",
    ),
    (
        "server_reset_query_always",
        "pooling::modes::transaction_mode_cleans_nothing_unless_told_to_always",
    ),
    (
        "server_round_robin",
        "pooling::with_round_robin_idle_servers_take_turns",
    ),
    (
        "stats_users",
        "auth::clients::the_console_is_for_admins_and_for_those_who_may_look",
    ),
    (
        "track_extra_parameters",
        "parameters::what_a_server_does_not_report_is_never_set",
    ),
    (
        "transaction_timeout",
        "timeouts::servers::transaction_timeout_ends_a_transaction_whatever_it_does",
    ),
    (
        "unix_socket_dir",
        "config::process::one_address_that_can_not_be_had_is_a_warning_and_none_at_all_is_the_end",
    ),
    (
        "user",
        "config::process::root_must_name_another_account_and_becomes_it",
    ),
    (
        "verbose",
        "auth::secrets::no_login_leaves_a_secret_in_the_log",
    ),
    (
        "workers",
        "limits::four_workers_and_two_hundred_clients_fill_the_pool_exactly",
    ),
];

/// Settings whose effect no conversation shows yet, and why.
pub(crate) const WITHOUT_TEST: &[(&str, &str)] = &[
    ("conffile", "still to be written: SET it, then RELOAD"),
    (
        "listen_backlog",
        "the kernel's queue can't be seen from outside",
    ),
    (
        "log_connections",
        "many wait for these lines; that 0 leaves them out is still to be shown",
    ),
    ("log_disconnections", "like log_connections"),
    ("log_pooler_errors", "like log_connections"),
    ("log_stats", "a line each stats_period; still to be written"),
    (
        "server_fast_close",
        "does not act: nothing marks the server of a session for closing",
    ),
    (
        "so_reuseport",
        "concerns several processes on one port, which make sense with peers",
    ),
    ("stats_period", "like log_stats"),
    (
        "tcp_keepalive",
        "an option of the kernel's; still to be read back from the socket",
    ),
    ("tcp_keepcnt", "like tcp_keepalive"),
    ("tcp_keepidle", "like tcp_keepalive"),
    ("tcp_keepintvl", "like tcp_keepalive"),
    ("tcp_socket_buffer", "like tcp_keepalive"),
    ("tcp_user_timeout", "like tcp_keepalive"),
    ("unix_socket_group", "needs a second group on the machine"),
    (
        "unix_socket_mode",
        "still to be written: the permissions of the file",
    ),
];
