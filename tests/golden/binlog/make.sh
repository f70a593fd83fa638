#!/usr/bin/env bash
# Makes the golden binary and relay logs anew, with real servers on 127.0.0.1 of a network namespace
# of their own. Each log comes with what its server says is in it (SHOW BINLOG or RELAYLOG EVENTS).
# Usage, as root, after `conclave-lab install` (and a run that fetched MariaDB):
#     tests/golden/binlog/make.sh mysql97|mariadb PREFIX DIR
# PREFIX is the server's folder below the lab's cache; files go to DIR. GTIDs, positions and times
# differ from run to run: the tests name those of the files that are checked in.
set -euo pipefail
kind=$1 prefix=$2 out=$3
if [ -z "${IN_NAMESPACE:-}" ]; then
    IN_NAMESPACE=1 exec unshare -n -- "$0" "$@"
fi
ip link set lo up
mkdir -p "$out"
work=$(mktemp -d /tmp/golden.XXXXXX)
pids=()
trap 'kill -9 "${pids[@]}" 2>/dev/null || true; rm -rf "$work"' EXIT

case $kind in
mysql97)
    daemon=$prefix/bin/mysqld client=$prefix/bin/mysql
    base="basedir=$prefix/usr
plugin_dir=$prefix/usr/lib/mysql/plugin
lc_messages_dir=$prefix/usr/share/mysql
character_sets_dir=$prefix/usr/share/mysql/charsets
secure_file_priv=NULL
mysqlx=0
log_replica_updates=ON
skip_replica_start=ON
innodb_redo_log_capacity=8M"
    ;;
mariadb)
    daemon=$prefix/bin/mariadbd client=$prefix/bin/mariadb
    base="basedir=$prefix/usr
plugin_dir=$prefix/usr/lib/mysql/plugin
log_slave_updates=ON
skip_slave_start=ON"
    ;;
*) echo "mysql97 or mariadb?" >&2; exit 2 ;;
esac

settings() { # server number
    cat >"$work/$1.cnf" <<CNF
[mysqld]
user=root
$base
datadir=$work/$1
socket=$work/$1.sock
pid_file=$work/$1.pid
log_error=$work/$1.err
tmpdir=$work
bind_address=127.0.0.1
port=1330$1
server_id=$1
log_bin=binlog
relay_log=relay
sync_binlog=0
innodb_buffer_pool_size=16M
performance_schema=OFF
CNF
    for line in "${@:2}"; do echo "$line" >>"$work/$1.cnf"; done
}
prepare() {
    if [ "$kind" = mysql97 ]; then
        "$daemon" --defaults-file="$work/$1.cnf" --initialize-insecure
        rm -f "$work/$1"/binlog.*
    else
        bash "$prefix/bin/mariadb-install-db" --defaults-file="$work/$1.cnf" --user=root \
            --auth-root-authentication-method=normal --skip-test-db --skip-name-resolve >/dev/null
        rm -f "$work/$1"/binlog.* "$work/$1"/relay*
    fi
}
start() {
    "$daemon" --defaults-file="$work/$1.cnf" >/dev/null 2>&1 &
    pids[$1]=$!
    for _ in $(seq 600); do
        sql "$1" "SELECT 1" >/dev/null 2>&1 && return
        sleep 0.1
    done
    tail "$work/$1.err" >&2
    exit 1
}
sql() { "$client" --no-defaults -uroot -S "$work/$1.sock" -N -e "$2"; }
slay() { kill -9 "${pids[$1]}"; wait "${pids[$1]}" 2>/dev/null || true; }
keep() { # server, file, name, BINLOG or RELAYLOG
    cp "$work/$1/$2" "$out/$3"
    sql "$1" "SHOW $4 EVENTS IN '$2'" | cut -f2-5 >"$out/$3.events"
}
until_equal() { # server, statement, wanted
    for _ in $(seq 300); do
        [ "$(sql "$1" "$2")" = "$3" ] && return
        sleep 0.1
    done
    echo "server $1: waited for $3 from $2, found $(sql "$1" "$2")" >&2
    exit 1
}

common='CREATE DATABASE d; CREATE TABLE d.t (id INT AUTO_INCREMENT PRIMARY KEY, v BLOB);
    INSERT INTO d.t (v) VALUES ("one"), ("two");
    START TRANSACTION; INSERT INTO d.t (v) VALUES ("ROLLBACK"); SAVEPOINT s;
    INSERT INTO d.t (v) VALUES ("COMMIT"); ROLLBACK TO SAVEPOINT s;
    INSERT INTO d.t (v) VALUES (0x00FE62696E0A0D00FF); COMMIT;
    SET SESSION binlog_format = STATEMENT;
    INSERT INTO d.t (v) VALUES (CONCAT("statement ", LAST_INSERT_ID()));
    UPDATE d.t SET v = CONCAT(v, "!") WHERE id = 1;
    SET SESSION binlog_format = ROW;
    XA START "x"; INSERT INTO d.t (v) VALUES ("xa"); XA END "x"; XA PREPARE "x"; XA COMMIT "x";'

mysql97() {
    settings 1 gtid_mode=ON enforce_gtid_consistency=ON
    prepare 1; start 1
    sql 1 "RESET BINARY LOGS AND GTIDS"
    sql 1 "$common"
    sql 1 'SET GTID_NEXT = "AUTOMATIC:tag_a"; INSERT INTO d.t (v) VALUES ("tagged");
        SET GTID_NEXT = "AUTOMATIC"; SET SESSION binlog_transaction_compression = ON;
        INSERT INTO d.t (v) VALUES (REPEAT("z", 500))'
    keep 1 binlog.000001 mysql97.000001 BINLOG
    sql 1 'FLUSH BINARY LOGS;
        SET GTID_NEXT = "AUTOMATIC:tag_b"; INSERT INTO d.t (v) VALUES ("tagged too");
        SET GTID_NEXT = "AUTOMATIC"; INSERT INTO d.t (v) VALUES ("plain");'
    cp "$work/1/binlog.000001" "$out/mysql97.000001"
    sql 1 "SHOW BINLOG EVENTS IN 'binlog.000001'" | cut -f2-5 >"$out/mysql97.000001.events"
    # Without checksums, and never closed: the server is killed.
    sql 1 'SET GLOBAL binlog_checksum = NONE; INSERT INTO d.t (v) VALUES ("no checksum"), ("more")'
    keep 1 binlog.000002 mysql97.000002 BINLOG
    keep 1 binlog.000003 mysql97.000003 BINLOG
    echo "$(sql 1 'SELECT @@gtid_executed')" >"$out/mysql97.executed"
    cp "$work/1/binlog.index" "$out/mysql97.index"
    # A replica: its relay logs are tiny, and the source rotates meanwhile.
    sql 1 'SET GLOBAL binlog_checksum = CRC32; CREATE USER r@"%"; GRANT REPLICATION SLAVE ON *.* TO r@"%"'
    sql 1 'RESET BINARY LOGS AND GTIDS'
    settings 2 gtid_mode=ON enforce_gtid_consistency=ON max_relay_log_size=4096 relay_log_purge=OFF
    prepare 2; start 2
    sql 2 "RESET BINARY LOGS AND GTIDS; CREATE DATABASE d;
        CREATE TABLE d.t (id INT AUTO_INCREMENT PRIMARY KEY, v BLOB); RESET BINARY LOGS AND GTIDS;
        CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT=13301, SOURCE_USER='r',
            SOURCE_AUTO_POSITION=1, GET_SOURCE_PUBLIC_KEY=1;
        START REPLICA IO_THREAD"
    for i in $(seq 1 9); do sql 1 "INSERT INTO d.t (v) VALUES (REPEAT('$i', 500))"; done
    sql 1 "FLUSH BINARY LOGS"
    for i in $(seq 10 12); do sql 1 "INSERT INTO d.t (v) VALUES (REPEAT('$i', 200))"; done
    received="SELECT RECEIVED_TRANSACTION_SET = (SELECT '$(sql 1 'SELECT @@gtid_executed')')
        FROM performance_schema.replication_connection_status"
    until_equal 2 "$received" 1
    sql 2 "STOP REPLICA IO_THREAD; START REPLICA IO_THREAD"
    sql 1 "INSERT INTO d.t (v) VALUES ('after a reconnect')"
    received="SELECT RECEIVED_TRANSACTION_SET = (SELECT '$(sql 1 'SELECT @@gtid_executed')')
        FROM performance_schema.replication_connection_status"
    until_equal 2 "$received" 1
    for file in $(cd "$work/2" && ls | grep -E '^relay\.[0-9]+$'); do
        keep 2 "$file" "mysql97-$file" RELAYLOG
    done
    for file in binlog.000001 binlog.000002; do keep 1 $file "mysql97-source-$file" BINLOG; done
    cp "$work/2/relay.index" "$out/mysql97-relay.index"
    # Transactions without GTIDs.
    slay 1
    settings 1 gtid_mode=OFF
    start 1
    sql 1 'RESET BINARY LOGS AND GTIDS; INSERT INTO d.t (v) VALUES ("nameless");
        CREATE TABLE d.u (id INT PRIMARY KEY); INSERT INTO d.u VALUES (1)'
    keep 1 binlog.000001 mysql97-anonymous.000001 BINLOG
    slay 1; slay 2
}

mariadb() {
    settings 1
    prepare 1; start 1
    sql 1 "RESET MASTER"
    sql 1 "$common"
    sql 1 'SET SESSION gtid_domain_id = 7; CREATE TABLE d.m (id INT PRIMARY KEY) ENGINE = Aria;
        INSERT INTO d.m VALUES (1)'
    sql 1 'FLUSH BINARY LOGS; INSERT INTO d.t (v) VALUES ("second file")'
    keep 1 binlog.000001 mariadb.000001 BINLOG
    sql 1 'SET GLOBAL binlog_checksum = NONE; INSERT INTO d.t (v) VALUES ("no checksum")'
    keep 1 binlog.000002 mariadb.000002 BINLOG
    keep 1 binlog.000003 mariadb.000003 BINLOG
    sql 1 'SELECT @@gtid_binlog_pos' >"$out/mariadb.executed"
    sql 1 'SET GLOBAL binlog_checksum = CRC32; CREATE USER r@"%"; GRANT REPLICATION SLAVE ON *.* TO r@"%";
        RESET MASTER'
    settings 2 max_relay_log_size=4096 relay_log_purge=OFF
    prepare 2; start 2
    sql 2 "CREATE DATABASE d; CREATE TABLE d.t (id INT AUTO_INCREMENT PRIMARY KEY, v BLOB); RESET MASTER;
        CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT=13301, MASTER_USER='r',
            MASTER_SSL_VERIFY_SERVER_CERT=0, MASTER_LOG_FILE='binlog.000001', MASTER_LOG_POS=4;
        START SLAVE IO_THREAD"
    for i in $(seq 1 9); do sql 1 "INSERT INTO d.t (v) VALUES (REPEAT('$i', 500))"; done
    sql 1 "FLUSH BINARY LOGS"
    for i in $(seq 10 12); do sql 1 "INSERT INTO d.t (v) VALUES (REPEAT('$i', 200))"; done
    position() { sql 1 "SHOW MASTER STATUS" | cut -f1,2 | tr '\t' ' '; }
    received() { "$client" --no-defaults -uroot -S "$work/2.sock" -E -e "SHOW SLAVE STATUS" |
        awk '/ Master_Log_File:/ {f=$2} /Read_Master_Log_Pos:/ {print f, $2}'; }
    until_received() {
        for _ in $(seq 300); do
            [ "$(received)" = "$(position)" ] && return
            sleep 0.1
        done
        echo "the replica has $(received), not $(position)" >&2
        exit 1
    }
    until_received
    sql 2 "STOP SLAVE IO_THREAD; START SLAVE IO_THREAD"
    sql 1 "INSERT INTO d.t (v) VALUES ('after a reconnect')"
    until_received
    for file in $(cd "$work/2" && ls | grep -E '^relay\.[0-9]+$'); do
        keep 2 "$file" "mariadb-$file" RELAYLOG
    done
    for file in binlog.000001 binlog.000002; do keep 1 $file "mariadb-source-$file" BINLOG; done
    cp "$work/2/relay.index" "$out/mariadb-relay.index"
    slay 1
    # Encrypted.
    echo "1;770A8A65DA156D24EE2A093277530142" >"$work/keys"
    settings 1 plugin_load_add=file_key_management.so "file_key_management_filename=$work/keys" \
        encrypt_binlog=ON
    if start 1; then
        sql 1 'RESET MASTER; INSERT INTO d.t (v) VALUES ("secret")'
        cp "$work/1/binlog.000001" "$out/mariadb-encrypted.000001"
        slay 1
    fi
    slay 2
}
$kind
ls -l "$out"
