"""From a conversation to the acts of an answer and the faults to send it with."""

from demo import talk
from demo.acts import Act, Say
from demo.conversation import Conversation
from demo.faults import Faults, dress, read_faults
from demo.planner import Question, Toolbox, plan
from demo.tasks import answer_task


def answer(
    conversation: Conversation, toolbox: Toolbox, leaky: bool
) -> tuple[tuple[Act, ...], Faults]:
    """What the agent answers, and the faults which the last message asks for."""
    # First of all: a task's prompt quotes the chat, with any commands in it.
    if task := answer_task(conversation):
        return (Say(task),), Faults()
    faults, text, commands = read_faults(conversation.last.text)
    if faults.words:
        acts: list[Act] = [Say(talk.repeat(talk.STORY, faults.words))]
    elif commands and not text:
        acts = [Say(talk.ONLY_FAULTS.format(commands=commands))]
    else:
        acts = plan(Question(conversation, text, toolbox, leaky))
    return tuple(dress(acts, faults)), faults
