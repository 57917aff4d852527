"""The only door to the output directory, and the place where crash safety is explained.

A run may be killed, or the power cut, between any two instructions. A step is therefore committed in five moves, each
durable before the next; `deploy.transaction` calls them in this order:

1. stage: write every file beside its target under a temporary name, with its final mode, and fsync it (`Volume.stage`).
2. announce: the state says `in-progress`, and the hash of every file that is about to appear. A later run recognizes a
   file that was published before the crash as ours, because its hash was announced. A secret is announced by its name
   only: a short value could be guessed from its hash.
3. publish: rename the staged files into place, the compose file last, and fsync the folders (`Volume.publish`). A new
   secret is linked instead, so that it cannot replace another one; without hard links it is renamed under the lock.
4. complete: one write of the state makes the announced hashes the known ones, and the step `completed`.
5. sweep: whoever takes the lock next removes files that are still staged (`Volume.sweep`).

So a crash repeats a step and never loses one: before 3 nothing has changed, and after it the same answers give the same
bytes. The state itself is staged and renamed as a whole, with the last good one beside it. `lock` lets one run write at
a time. To recover is to run the same command again.

What a run replaces is saved first, in a backup (`backups`). A backup counts once its manifest is written, which comes
last. A restore leaves a mark while it is in progress, and no other run begins until it is finished.
"""

__all__ = ["backups", "layout", "lock", "volume"]
