#!/usr/bin/env python3
"""Writes the dashboards beside this file. A panel is one line here; the JSON is what Grafana 9 and later imports.

usage: boards.py [FOLDER]
"""

import json
import os
import sys

LANE = '{source=~"$source", outbox=~"$outbox"}'
BY = "by (source, outbox)"
SOURCE = '{source=~"$source"}'
QUEUE = '{queue=~"$queue"}'
ENDPOINT = '{endpoint=~"$endpoint"}'
WIDTH, HEIGHT, SMALL = 24, 8, 4


def rate(metric, labels, by):
    return f"sum {by} (rate({metric}{labels}[$__rate_interval]))"


def quantile(q, metric, labels, by):
    return f"histogram_quantile({q}, sum by ({by}, le) (rate({metric}_bucket{labels}[$__rate_interval])))"


def lane(metric):
    return f"max {BY} ({metric}{LANE})"


def stat(title, text, expr, unit="short", warn=None, bad=None, low=None):
    """One number. warn and bad: from which value it is yellow and red; low: below which it is red."""
    steps = [{"color": "green", "value": None}]
    if low is not None:
        steps = [{"color": "red", "value": None}, {"color": "green", "value": low}]
    if warn is not None:
        steps.append({"color": "orange", "value": warn})
    if bad is not None:
        steps.append({"color": "red", "value": bad})
    return {
        "type": "stat", "title": title, "description": text, "size": (4, SMALL),
        "targets": [(expr, "")],
        "fieldConfig": {"defaults": {"unit": unit, "thresholds": {"mode": "absolute", "steps": steps}}, "overrides": []},
        "options": {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "background", "graphMode": "area"},
    }


def graph(title, text, *targets, unit="short", width=8):
    return {
        "type": "timeseries", "title": title, "description": text, "size": (width, HEIGHT),
        "targets": targets,
        "fieldConfig": {"defaults": {"unit": unit, "min": 0, "custom": {"fillOpacity": 8, "showPoints": "never"}}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
    }


def row(title):
    return {"type": "row", "title": title, "size": (WIDTH, 1), "collapsed": False, "panels": []}


def variable(name, metric):
    return {
        "name": name, "type": "query", "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "query": f"label_values({metric}, {name})", "refresh": 2, "multi": True, "includeAll": True, "allValue": ".*",
        "current": {"text": "All", "value": "$__all"}, "sort": 1,
    }


def board(uid, title, text, variables, panels):
    x = y = tall = 0
    placed = []
    for number, panel in enumerate(panels, 1):
        width, height = panel.pop("size")
        if x + width > WIDTH or panel["type"] == "row":
            x, y, tall = 0, y + tall, 0
        panel["id"], panel["gridPos"] = number, {"x": x, "y": y, "w": width, "h": height}
        x, tall = x + width, max(tall, height)
        if panel["type"] != "row":
            panel["datasource"] = {"type": "prometheus", "uid": "${datasource}"}
            panel["targets"] = [
                {"refId": chr(ord("A") + i), "expr": expr, "legendFormat": legend or "__auto"}
                for i, (expr, legend) in enumerate(panel["targets"])]
        placed.append(panel)
    source = {"name": "datasource", "type": "datasource", "query": "prometheus", "current": {}}
    return {
        "uid": uid, "title": title, "description": text, "tags": ["rowpost"], "schemaVersion": 37, "version": 1,
        "editable": True, "refresh": "30s", "time": {"from": "now-3h", "to": "now"}, "timezone": "",
        "links": [{"type": "dashboards", "tags": ["rowpost"], "title": "Rowpost", "asDropdown": True, "includeVars": True,
                   "keepTime": True}],
        "annotations": {"list": []}, "templating": {"list": [source] + variables}, "panels": placed,
    }


NAMED = "{{source}}/{{outbox}}"

RELAY = board(
    "rowpost-relay", "Rowpost: relay", "Outboxes, their owners, and the way to the broker.",
    [variable("source", "rowpost_lane_ready"), variable("outbox", "rowpost_lane_ready")],
    [
        stat("Oldest message", "Age of the oldest row of any outbox: the figure in which everything else ends.",
             "max(rowpost:oldest_age_seconds:max" + LANE + ")", "s", 10, 60),
        stat("Waiting", "Rows in the outboxes, as the owners count them.", "sum(rowpost:rows_waiting:max" + LANE + ")", warn=10000),
        stat("Parked", "Messages that a person has to decide about: outboxctl parked list.",
             f"sum({lane('rowpost_parked_rows')})", warn=1),
        stat("Frozen keys", "Ordering keys that stand still after a parked message.",
             f"sum({lane('rowpost_frozen_keys')})", warn=1, bad=1),
        stat("Outboxes without an owner", "No relay holds the lease: nothing is published from them.",
             f"count(sum {BY} (rowpost_lease_held{LANE}) == 0) or vector(0)", bad=1),
        stat("Relays ready", "What /readyz says, of all that are scraped.", "sum(rowpost_ready)", low=1),
        row("Throughput and time"),
        graph("Messages", "Confirmed by the broker, and settled (deleted or kept for their receipts).",
              ("rowpost:confirmed:rate5m" + LANE, "confirmed " + NAMED), ("rowpost:settled:rate5m" + LANE, "settled " + NAMED),
              unit="ops"),
        graph("From commit to confirm", "What applications see: from the row's created_at to the broker's confirm.",
              ("rowpost:commit_to_confirm_seconds:p50_5m" + LANE, "p50 " + NAMED),
              ("rowpost:commit_to_confirm_seconds:p99_5m" + LANE, "p99 " + NAMED), unit="s"),
        graph("From publish to confirm", "The broker's part of it.",
              ("rowpost:publish_to_confirm_seconds:p99_5m" + LANE, "p99 " + NAMED), unit="s"),
        graph("Backlog", "Rows in the outbox; counting stops at a limit.", ("rowpost:rows_waiting:max" + LANE, NAMED)),
        graph("Age of the oldest row", "By the database's clock.", ("rowpost:oldest_age_seconds:max" + LANE, NAMED), unit="s"),
        graph("In memory", "Published and not confirmed; waiting for their key; to be tried again; confirmed and not deleted.",
              (lane("rowpost_inflight"), "in flight " + NAMED), (lane("rowpost_held"), "held " + NAMED),
              (lane("rowpost_retrying"), "retrying " + NAMED), (lane("rowpost_unsettled"), "unsettled " + NAMED)),
        row("What goes wrong"),
        graph("Refused", "Returned: no queue is bound. Refused: by a full queue. Exchange: missing or forbidden.",
              (rate("rowpost_returned_total", LANE, BY), "returned " + NAMED),
              (rate("rowpost_nacked_total", LANE, BY), "refused " + NAMED),
              (rate("rowpost_exchange_faults_total", LANE, BY), "exchange " + NAMED), unit="ops"),
        graph("Parked and decided", "Parked by the relay; resumed and discarded by operators.",
              (rate("rowpost_parked_total", LANE, BY), "parked " + NAMED), (rate("rowpost_resumed_total", LANE, BY), "resumed " + NAMED),
              (rate("rowpost_discarded_total", LANE, BY), "discarded " + NAMED), unit="ops"),
        graph("Published again", "In flight when a connection was lost: these may arrive twice, and consumers drop the second.",
              (rate("rowpost_unknown_total", LANE, BY), NAMED), unit="ops"),
        row("Owners and connections"),
        graph("Owner", "1: this relay holds the lease. One line for each outbox, at any time.",
              ("rowpost_lease_held" + LANE, NAMED + " {{instance}}")),
        graph("Leases", "Taken and lost.", (rate("rowpost_lease_acquired_total", LANE, BY), "taken " + NAMED),
              (rate("rowpost_lease_lost_total", LANE, BY), "lost " + NAMED), unit="ops"),
        graph("Connections", "Connected to the broker; blocked by its alarm; connections made.",
              ("rowpost_broker_up" + LANE, "up " + NAMED + " {{instance}}"),
              ("rowpost_broker_blocked" + LANE, "blocked " + NAMED + " {{instance}}"),
              (rate("rowpost_broker_connects_total", LANE, "by (instance)"), "broker connects {{instance}}"),
              (rate("rowpost_db_connects_total", LANE, "by (instance)"), "database connects {{instance}}")),
        row("Receipts and delayed messages"),
        graph("Awaiting receipts", "Messages that their consumers have not reported yet.",
              (lane("rowpost_awaiting_rows"), NAMED)),
        graph("Receipts", "Messages settled and rejected by their receipts, sent again for want of them, given up.",
              (rate("rowpost_receipts_settled_total", SOURCE, "by (source)"), "settled {{source}}"),
              (rate("rowpost_receipts_rejected_total", SOURCE, "by (source)"), "rejected {{source}}"),
              (rate("rowpost_resent_total", LANE, BY), "sent again " + NAMED),
              (rate("rowpost_receipts_missing_total", LANE, BY), "missing " + NAMED), unit="ops"),
        graph("Delayed", "Waiting for their time; for an outbox that nobody drains.",
              (lane("rowpost_delayed_rows"), "waiting " + NAMED), (lane("rowpost_delayed_stray_rows"), "stray " + NAMED)),
        row("The process"),
        graph("Memory", "Resident.", ('process_resident_memory_bytes and on (instance, job) rowpost_build_info', "{{instance}}"),
              unit="bytes"),
        graph("Processor", "Seconds a second.",
              ("rate(process_cpu_seconds_total[$__rate_interval]) and on (instance, job) rowpost_build_info", "{{instance}}")),
        graph("Statements", "Statements of the lanes, polls among them.", (rate("rowpost_queries_total", LANE, BY), NAMED),
              (rate("rowpost_polls_total", LANE, BY), "polls " + NAMED), unit="ops"),
    ])

HALF = board(
    "rowpost-half", "Rowpost: half-messages", "Prepares, verdicts, check-back.", [],
    [
        stat("Parked", "Producers gave no verdict: a person has to decide. outboxctl half list.", "max(rowpost_half_parked_now)", warn=1),
        stat("Conflicts in an hour", "Producers that said both: the first verdict holds.",
             "sum(increase(rowpost_half_conflicts_total[1h]))", warn=1),
        stat("Open", "Prepared and not decided, counted up to 10000.", "max(rowpost_half_prepared_now)"),
        stat("Oldest open", "How long its producer has been silent.", "max(rowpost_half_oldest_prepared_seconds)", "s", 600, 3600),
        stat("API up", "Relays that are connected to a suitable database.", "sum(rowpost_half_up)", low=1),
        stat("Who asks", "1: one relay checks back.", "sum(rowpost_half_check_lease_held)", low=1),
        row("Requests"),
        graph("Done", "By all relays.", ("sum(rate(rowpost_half_prepared_total[$__rate_interval]))", "prepared"),
              ("sum(rate(rowpost_half_committed_total[$__rate_interval]))", "committed"),
              ("sum(rate(rowpost_half_rolled_back_total[$__rate_interval]))", "rolled back"),
              ("sum(rate(rowpost_half_repeats_total[$__rate_interval]))", "repeated"), unit="ops"),
        graph("Answered 503", "The database is away; the queue is full; another transaction holds the half-message.",
              ("sum(rate(rowpost_half_failed_total[$__rate_interval]))", "failed"),
              ("sum(rate(rowpost_half_overloads_total[$__rate_interval]))", "overloaded"),
              ("sum(rate(rowpost_half_busy_total[$__rate_interval]))", "busy"), unit="ops"),
        graph("Time of a request", "Mean, from the whole request to its answer.",
              ("sum by (instance) (rate(rowpost_half_api_latency_seconds_sum[$__rate_interval])) / "
               "sum by (instance) (rate(rowpost_half_api_latency_seconds_count[$__rate_interval]))", "{{instance}}"), unit="s"),
        graph("Requests to a commit", "Group commit: how many requests share a transaction.",
              ("sum by (instance) (rate(rowpost_half_api_requests_total[$__rate_interval])) / "
               "sum by (instance) (rate(rowpost_half_batches_total[$__rate_interval]))", "{{instance}}")),
        graph("Connections", "Open, turned away, cut off.", ("rowpost_half_api_connections", "open {{instance}}"),
              ("rate(rowpost_half_api_turned_away_total[$__rate_interval])", "turned away {{instance}}"),
              ("rate(rowpost_half_api_cut_off_total[$__rate_interval])", "cut off {{instance}}")),
        graph("Refused requests", "Without a valid token; a gid with another content; the opposite verdict.",
              ("sum(rate(rowpost_half_api_unauthorized_total[$__rate_interval]))", "no token"),
              ("sum(rate(rowpost_half_gid_reused_total[$__rate_interval]))", "gid used for something else"),
              ("sum(rate(rowpost_half_conflicts_total[$__rate_interval]))", "conflict"), unit="ops"),
        row("Verdicts and check-back"),
        graph("Verdicts by origin", "Many by check: producers are slow, or die.",
              ("sum by (origin) (rate(rowpost_half_verdicts_total[$__rate_interval]))", "{{origin}}"), unit="ops"),
        graph("Questions", "Asked, answered, failed.", ("sum(rate(rowpost_half_checks_asked_total[$__rate_interval]))", "asked"),
              ("sum(rate(rowpost_half_checks_answered_total[$__rate_interval]))", "answered"),
              ("sum(rate(rowpost_half_checks_failed_total[$__rate_interval]))", "failed"),
              ("sum(rate(rowpost_half_parked_total[$__rate_interval]))", "parked"), unit="ops"),
        graph("Producers left alone", "1: it has not answered for a while.",
              ("max by (producer) (rowpost_half_breaker_open)", "{{producer}}"),
              ("sum by (producer) (rowpost_half_checks_in_flight)", "asked now {{producer}}")),
    ])

RECEIVING = board(
    "rowpost-receiving", "Rowpost: receiving side", "inbox-relay: inboxes of services, and calls of HTTP endpoints.",
    [variable("queue", "rowpost_inbox_ready"), variable("endpoint", "rowpost_notify_paused")],
    [
        stat("Oldest message", "How long the first row that may be taken has waited.",
             f"max(rowpost_inbox_oldest_ready_seconds{QUEUE})", "s", 10, 60),
        stat("Ready", "Rows that workers may take, counted up to 10000.", f"sum(max by (queue) (rowpost_inbox_ready{QUEUE}))"),
        stat("Dead", "Rejected by the service, or out of attempts: outboxctl inbox list.",
             f"sum(max by (queue) (rowpost_inbox_dead_rows{QUEUE}))", warn=1),
        stat("Given up calls", "Kept in the table: outboxctl notify list --state given_up.",
             f"sum(max by (endpoint) (rowpost_notify_given_up_rows{ENDPOINT}))", warn=1),
        stat("Paused endpoints", "Answered 410, or paused by an operator.", f"sum(max by (endpoint) (rowpost_notify_paused{ENDPOINT}))", warn=1),
        stat("Latest call", "How long the first due notification has been due.",
             f"max(rowpost_notify_oldest_due_seconds{ENDPOINT})", "s", 60, 300),
        row("Inboxes"),
        graph("Messages", "Stored in the inbox; done by the service.", (rate("rowpost_inbox_stored_total", QUEUE, "by (queue)"), "stored {{queue}}"),
              (rate("rowpost_inbox_done_total", QUEUE, "by (queue)"), "done {{queue}}"), unit="ops"),
        graph("Rows", "Ready; waiting for an earlier row of their key; dead.",
              (f"max by (queue) (rowpost_inbox_ready{QUEUE})", "ready {{queue}}"),
              (f"max by (queue) (rowpost_inbox_blocked{QUEUE})", "blocked {{queue}}"),
              (f"max by (queue) (rowpost_inbox_dead_rows{QUEUE})", "dead {{queue}}")),
        graph("Age of the first ready row", "Workers that do not keep up, or do not run.",
              (f"max by (queue) (rowpost_inbox_oldest_ready_seconds{QUEUE})", "{{queue}}"), unit="s"),
        graph("What went wrong", "Dead; batches undone; rows that somebody removed; not storable.",
              (rate("rowpost_inbox_dead_total", QUEUE, "by (queue)"), "dead {{queue}}"),
              (rate("rowpost_inbox_unstored_total", QUEUE, "by (queue)"), "undone {{queue}}"),
              (rate("rowpost_inbox_missing_total", QUEUE, "by (queue)"), "removed {{queue}}"),
              (f"max by (queue) (rowpost_inbox_parked_rows{QUEUE})", "parked {{queue}}")),
        graph("Receipts", "Confirmed; without a queue.", (rate("rowpost_inbox_reported_total", QUEUE, "by (queue)"), "confirmed {{queue}}"),
              (rate("rowpost_inbox_reports_given_up_total", QUEUE, "by (queue)"), "no queue {{queue}}"), unit="ops"),
        graph("Connections", "Consuming; connections that store; datagrams refused by workers' sockets.",
              (f"max by (queue) (rowpost_inbox_broker_up{QUEUE})", "broker {{queue}}"),
              (f"max by (queue) (rowpost_inbox_databases_up{QUEUE})", "database {{queue}}"),
              (rate("rowpost_inbox_wakes_refused_total", QUEUE, "by (queue)"), "refused {{queue}}")),
        row("HTTP endpoints"),
        graph("Calls", "Answered with 2xx; failed.", (rate("rowpost_notify_delivered_total", ENDPOINT, "by (endpoint)"), "delivered {{endpoint}}"),
              (rate("rowpost_notify_failed_total", ENDPOINT, "by (endpoint)"), "failed {{endpoint}}"),
              (rate("rowpost_notify_given_up_total", ENDPOINT, "by (endpoint)"), "given up {{endpoint}}"), unit="ops"),
        graph("Waiting", "Notifications in the table, counted up to 10000; calls in flight.",
              (f"max by (endpoint) (rowpost_notify_waiting{ENDPOINT})", "waiting {{endpoint}}"),
              (f"max by (endpoint) (rowpost_notify_in_flight{ENDPOINT})", "in flight {{endpoint}}")),
        graph("Time of a call", "p99, whatever came of it.", ("rowpost:notify_call_seconds:p99_5m" + ENDPOINT, "{{endpoint}}"), unit="s"),
        graph("Breaker", "0 closed, 1 open, 2 probing.", (f"max by (endpoint) (rowpost_notify_breaker{ENDPOINT})", "{{endpoint}}")),
        graph("Owner", "1: this process makes the calls.", ("rowpost_notify_owner", "{{instance}}")),
        graph("Recorded", "Notifications written; messages that could not be recorded.",
              (rate("rowpost_notify_recorded_total", ENDPOINT, "by (endpoint)"), "{{endpoint}}"),
              ("sum(rate(rowpost_notify_dead_lettered_total[$__rate_interval]))", "dead"), unit="ops"),
    ])

if __name__ == "__main__":
    folder = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__))
    for name, content in (("relay", RELAY), ("half-messages", HALF), ("receiving", RECEIVING)):
        with open(os.path.join(folder, name + ".json"), "w", encoding="utf-8") as file:
            json.dump(content, file, indent=1)
            file.write("\n")
