complete -c pgusher -s u -l user -d 'Account to run as, once the sockets are open' -r
complete -c pgusher -l entrypoint -d 'Start what a container starts with: the pooler, with the variables that images of PgBouncer know if no ini is mounted, or the command that follows' -r
complete -c pgusher -s d -l daemon -d 'Run in the background (needs pidfile, and logfile or syslog)'
complete -c pgusher -s v -l verbose -d 'Log more; may be given more than once'
complete -c pgusher -s q -l quiet -d 'Do not log to stderr'
complete -c pgusher -s R -l reboot -d 'Take over from the running process: its sockets at once, its clients and servers as they become idle. Clients behind TLS stay with it until they leave'
complete -c pgusher -l check -d 'Read the configuration, say what is wrong with it, and exit'
complete -c pgusher -l healthcheck -d 'Ask the running pooler whether it is ready for clients, and exit: 0 for yes'
complete -c pgusher -s V -l version -d 'Show the version and exit'
complete -c pgusher -s h -l help -d 'Print help'
