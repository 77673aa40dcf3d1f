"""asyncio through the queue's descriptor."""

import asyncio
import errno
import time

import pytest
from conftest import stamped

import xcopy


def test_copy(files, tmp_path):
    result = asyncio.run(xcopy.copy_async(files[0], tmp_path / "new"))
    assert result.bytes == 1 << 20
    assert (tmp_path / "new").read_bytes() == stamped(1, 1 << 20)


def test_an_empty_source(tmp_path):
    (tmp_path / "empty").touch()
    assert asyncio.run(xcopy.copy_async(tmp_path / "empty", tmp_path / "new")).bytes == 0


def test_many_at_once(files, tmp_path):
    async def run():
        return await asyncio.gather(
            *(xcopy.copy_async(files[i % 2], tmp_path / f"new{i}") for i in range(8))
        )

    results = asyncio.run(run())
    for i, result in enumerate(results):
        assert result.bytes == (1 << 20) << i % 2
        assert (tmp_path / f"new{i}").read_bytes() == stamped(1 + i % 2, (1 << 20) << i % 2)


def test_error(files):
    async def run():
        await xcopy.copy_async(*files, methods=1 << 31, no_fallback=True)

    with pytest.raises(xcopy.XcopyError) as caught:
        asyncio.run(run())
    assert caught.value.errno in (errno.ENOTSUP, errno.EINVAL)
    assert files[1].read_bytes() == stamped(2, 2 << 20)


def test_the_loop_runs_meanwhile(slow):
    async def run():
        ticks = 0

        async def tick():
            nonlocal ticks
            while True:
                await asyncio.sleep(0.01)
                ticks += 1

        ticking = asyncio.ensure_future(tick())
        seen = []
        with pytest.raises(xcopy.XcopyError) as caught:
            await xcopy.copy_async(
                **slow, timeout=0.5, progress=lambda done, total: seen.append(done)
            )
        ticking.cancel()
        assert caught.value.errno == errno.ETIMEDOUT
        return ticks, seen

    ticks, seen = asyncio.run(run())
    assert ticks >= 10
    assert len(seen) >= 3 and seen == sorted(seen) and seen[-1] > 0


def test_cancelling_the_task_cancels_the_copy(slow):
    async def run():
        task = asyncio.ensure_future(xcopy.copy_async(**slow))
        await asyncio.sleep(0.2)
        task.cancel()
        start = time.monotonic()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - start < 5

    asyncio.run(run())
    blocks = slow["dst"].stat().st_blocks
    time.sleep(0.2)
    assert slow["dst"].stat().st_blocks == blocks


def test_wait_for(slow):
    async def run():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(xcopy.copy_async(**slow), 0.2)

    asyncio.run(run())


def test_copying(slow, files):
    async def run():
        async with xcopy.copying(*files) as c:
            assert (await c.wait_async()).bytes == 1 << 20
        async with xcopy.copying(*files):
            pass
        with pytest.raises(xcopy.XcopyError) as caught:
            async with xcopy.copying(**slow) as c:
                await asyncio.sleep(0.1)
                assert c.progress().bytes_total == 512 << 20
                c.cancel()
        assert caught.value.errno == errno.ECANCELED
        with pytest.raises(LookupError):
            async with xcopy.copying(**slow):
                raise LookupError

    asyncio.run(run())
    assert files[1].read_bytes() == stamped(1, 1 << 20)


def test_tickets(host, files):
    async def run():
        src, dst = files
        with host.open(src) as reader, host.open(dst, xcopy.Open.WRITE) as writer:
            async with host.queue() as queue:
                tickets = queue.submit(
                    [
                        xcopy.Request(
                            src=reader,
                            dst=writer,
                            src_offset=i * 4096,
                            dst_offset=i * 4096,
                            length=4096,
                            user_data=i,
                        )
                        for i in range(200)
                    ]
                )
                assert (await tickets[150]).user_data == 150
                some = await asyncio.gather(*(queue.wait(ticket) for ticket in tickets[:50]))
                assert [completion.user_data for completion in some] == list(range(50))
                seen = set()
                while queue.in_flight:
                    seen |= {completion.user_data for completion in await queue.wait()}
                assert seen == set(range(50, 150)) | set(range(151, 200))
                assert await queue.wait() == []

    asyncio.run(run())
    assert files[1].read_bytes()[: 200 * 4096] == stamped(1, 200 * 4096)


def test_a_waiter_that_gives_up_leaves_the_request(host, slow):
    async def run():
        with host.open(slow["src"]) as reader, open(slow["dst"], "w+b") as file:
            with host.open(file, xcopy.Open.WRITE) as writer:
                async with host.queue(depth=1, chunk=4096) as queue:
                    ticket = queue.submit(
                        xcopy.Request(src=reader, dst=writer, length=512 << 20, methods=1 << 7)
                    )
                    with pytest.raises(asyncio.TimeoutError):
                        await asyncio.wait_for(queue.wait(ticket), 0.1)
                    assert queue.in_flight == 1
                    ticket.cancel()
                    assert (await ticket).res == -errno.ECANCELED

    asyncio.run(run())


def test_one_loop_after_another(host, files):
    src, dst = files
    with host.open(src) as reader, host.open(dst, xcopy.Open.WRITE) as writer:
        with host.queue() as queue:
            for _ in range(3):

                async def run():
                    request = xcopy.Request(src=reader, dst=writer, length=4096)
                    return await queue.submit(request)

                assert asyncio.run(run()).ok
