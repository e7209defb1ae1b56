#!/usr/bin/env bash
# A Slurm cluster of one node, this one, for tests: munged, slurmctld and slurmd with a configuration of their own, on
# ports of their own. As root; installs what is missing.
#
#     scripts/workflows/slurm.sh start DIR    then: source DIR/environment
#     scripts/workflows/slurm.sh stop DIR
set -euo pipefail
command=${1:?start or stop} directory=$(realpath -m "${2:?a directory}")
export PATH=$PATH:/usr/sbin

configure() {
    local host cpus
    host=$(hostname -s) cpus=$(nproc)
    mkdir -p "$directory"/{state,spool,log,munge}
    chmod 755 "$directory" "$directory"/munge
    if [ ! -s "$directory/munge.key" ]; then
        (umask 077 && head -c 1024 /dev/urandom > "$directory/munge.key")
    fi
    cat > "$directory/slurm.conf" <<CONF
ClusterName=nyx
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$directory/munge/munge.socket
CredType=cred/munge
StateSaveLocation=$directory/state
SlurmdSpoolDir=$directory/spool
SlurmctldPidFile=$directory/slurmctld.pid
SlurmdPidFile=$directory/slurmd.pid
SlurmctldLogFile=$directory/log/slurmctld.log
SlurmdLogFile=$directory/log/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,sched_min_interval=100000,batch_sched_delay=0
MpiDefault=none
ReturnToService=2
MinJobAge=3600
KillWait=1
# A busy machine is no broken one: by default a job that does not start within 10 s is given up, a message not answered within
# 10 s is lost, and a step that does not die within 60 s takes the node out of service.
BatchStartTimeout=300
MessageTimeout=100
TCPTimeout=30
SlurmdTimeout=0
UnkillableStepTimeout=600
NodeName=$host NodeAddr=127.0.0.1 CPUs=$cpus RealMemory=$(($(awk '/MemTotal/ { print $2 }' /proc/meminfo) / 1024 - 256)) State=UNKNOWN
PartitionName=main Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF
    # Snakemake's jobs forget SLURM_CONF: they look where Debian has it. A cluster that is there already stays as it is.
    if [ ! -e /etc/slurm/slurm.conf ]; then
        mkdir -p /etc/slurm
        ln -sf "$directory/slurm.conf" /etc/slurm/slurm.conf
    fi
    cat > "$directory/environment" <<ENV
export SLURM_CONF=$directory/slurm.conf
ENV
}

start() {
    if [ "$(id -u)" != 0 ]; then
        echo "slurm.sh: slurmd starts jobs as their users: run this as root" >&2
        exit 1
    fi
    "$(dirname "$0")/install.sh" slurm
    for name in munged slurmctld slurmd sbatch; do
        command -v "$name" >/dev/null || { echo "slurm.sh: $name is not installed" >&2; exit 1; }
    done
    configure
    export SLURM_CONF=$directory/slurm.conf
    munged --force --socket="$directory/munge/munge.socket" --key-file="$directory/munge.key" \
        --pid-file="$directory/munged.pid" --log-file="$directory/log/munged.log" --seed-file="$directory/munge.seed"
    slurmctld -i || { echo "slurm.sh: slurmctld does not start" >&2; exit 1; }
    slurmd || { echo "slurm.sh: slurmd does not start (cgroups?)" >&2; exit 1; }
    for _ in $(seq 100); do
        if sinfo --noheader --format=%T 2>/dev/null | grep -q -E '^(idle|mixed|allocated)$'; then
            sinfo
            # In a container the daemons may run and a job may not.
            if timeout 60 sbatch --wait --chdir="$directory" --output=/dev/null --wrap true >/dev/null 2>&1; then
                return
            fi
            tail -n 20 "$directory"/log/*.log >&2
            echo "slurm.sh: the node is up, but runs no job" >&2
            exit 1
        fi
        sleep 0.3
    done
    tail -n 20 "$directory"/log/*.log >&2
    echo "slurm.sh: the node does not come up" >&2
    exit 1
}

stop() {
    local name pid
    if [ -s "$directory/slurm.conf" ]; then
        SLURM_CONF=$directory/slurm.conf scancel --user "$(id -un)" 2>/dev/null || true
    fi
    for name in slurmd slurmctld munged; do
        [ -s "$directory/$name.pid" ] || continue
        pid=$(cat "$directory/$name.pid")
        kill "$pid" 2>/dev/null || continue
        for _ in $(seq 50); do
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.2
        done
    done
}

unlink_configuration() {
    if [ "$(readlink /etc/slurm/slurm.conf)" = "$directory/slurm.conf" ]; then rm /etc/slurm/slurm.conf; fi
}

case $command in
    start) start ;;
    stop) stop; unlink_configuration ;;
    *) echo "slurm.sh: start or stop, not $command" >&2; exit 2 ;;
esac
