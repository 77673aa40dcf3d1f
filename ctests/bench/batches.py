"""What an operation costs a Python program that submits in batches, on the null plugin."""

import random
import statistics
import time

import xcopy

BATCH, ROUNDS, RUNS, GOAL_US = 256, 400, 9, 1.0


def run(queue, requests, completions):
    begun = time.perf_counter()
    for _ in range(ROUNDS):
        sent = queue.submit_batch(requests)
        taken = 0
        while taken < sent:
            taken += queue.poll_into(completions)
        assert sent == BATCH
    return (time.perf_counter() - begun) * 1e6 / (ROUNDS * BATCH)


def main():
    with xcopy.Context() as context, context.queue(capacity=BATCH) as queue:
        pairs = []
        for number in range(16):
            src = context.open(f"null:1G,id={100 + number}", xcopy.Open.READ)
            dst = context.open(f"null:1G,id={200 + number}", xcopy.Open.WRITE)
            queue.prepare(src, dst).wait(10).raise_for_error()
            pairs.append((src, dst))
        requests = (xcopy.RequestRecord * BATCH)()
        completions = (xcopy.CompletionRecord * BATCH)()
        for number, record in enumerate(requests):
            src, dst = random.choice(pairs)
            record.user_data, record.op, record.length = number, xcopy.Op.COPY, 4096
            record.src, record.dst = src.handle, dst.handle
        figures = sorted(run(queue, requests, completions) for _ in range(RUNS))
        assert all(record.res == 0 and record.bytes_done == 4096 for record in completions)
    middle = statistics.median(figures)
    verdict = "met" if middle <= GOAL_US else "MISSED"
    low, _, high = statistics.quantiles(figures, n=4)
    print(f"Python: {middle:.3f} us an operation in batches of {BATCH} "
          f"({low:.3f}–{high:.3f}), goal {GOAL_US:.0f}: {verdict}")


main()
