"""The table of renderings: one row for each way a family writes its calls."""

from tests.unit.toolcalls import renderings as r
from tests.unit.toolcalls.renderings import Rendering

QWEN_TAGS = (
    "<parameter",
    "</parameter",
    "<function",
    "</function",
    "<tool_call>",
    "</tool_call>",
)
ARG_TAGS = ("arg_key>", "arg_value>", "tool_call>", "tool_calls>", "tool_sep>")
INVOKE_TAGS = ("<parameter", "</parameter", "<invoke", "</invoke", "function_call>")
FULL = "｜"
BEGIN_CALLS = f"<{FULL}tool▁calls▁begin{FULL}>"
BEGIN_CALL = f"<{FULL}tool▁call▁begin{FULL}>"
SEPARATOR = f"<{FULL}tool▁sep{FULL}>"
END_CALL = f"<{FULL}tool▁call▁end{FULL}>"
END_CALLS = f"<{FULL}tool▁calls▁end{FULL}>"
PLAMO_NAME = (
    "<|plamo:begin_tool_request:plamo|><|plamo:begin_tool_name:plamo|>",
    "<|plamo:end_tool_name:plamo|><|plamo:begin_tool_arguments:plamo|>" "<|plamo:msg|>",
    "<|plamo:end_tool_arguments:plamo|><|plamo:end_tool_request:plamo|>",
    "<|plamo:begin_tool_requests:plamo|>",
    "<|plamo:end_tool_requests:plamo|>",
)
QWEN_XML = (
    "<function=@>\n",
    "<parameter=@>\n",
    "\n</parameter>\n",
    "</function>\n",
)

JSON = [
    Rendering("apertus", r.apertus, thoughts=("<|inner_prefix|>", "<|inner_suffix|>")),
    Rendering("apriel", r.json_list("<tool_calls>", "</tool_calls>")),
    Rendering("command_r7b", r.command_r7b),
    Rendering("command_r_plus", r.command_r_plus),
    Rendering(
        "deepseek_v3",
        r.name_then_json(
            f"{BEGIN_CALL}function{SEPARATOR}",
            "\n```json\n",
            f"\n```{END_CALL}",
            BEGIN_CALLS,
            END_CALLS,
        ),
    ),
    Rendering(
        "deepseek_v31",
        r.name_then_json(BEGIN_CALL, SEPARATOR, END_CALL, BEGIN_CALLS, END_CALLS),
    ),
    Rendering("ernie45", r.json_each("<tool_call>\n", "\n</tool_call>\n")),
    Rendering("firefunction", r.json_list(" functools", "")),
    Rendering("functionary_v31", r.name_then_json("<function=", ">", "</function>")),
    Rendering("functionary_v32", r.name_then_json(">>>", "\n", "")),
    Rendering("generic_json", r.generic_json),
    Rendering("generic_json_fenced", r.fenced_json, alone=True),
    Rendering("generic_json_openai", r.openai_shape),
    Rendering(
        "gigachat3",
        r.json_each("<|message_sep|>\n\nfunction call<|role_sep|>\n", ""),
        several=False,
    ),
    Rendering("gigachat3_marker", r.json_each("<|function_call|>", ""), several=False),
    Rendering("gpt_oss", r.harmony),
    Rendering("gpt_oss_stripped", r.harmony_stripped, several=False),
    Rendering("granite", r.json_list("<|tool_call|>", "")),
    Rendering("granite_31", r.json_list("<tool_call>", "")),
    Rendering("granite_20b_fc", r.json_each("<function_call> ", "", " ")),
    Rendering("hermes", r.json_each("<tool_call>\n", "\n</tool_call>", "\n")),
    Rendering("hermes_compact", r.json_each("<tool_call>", "</tool_call>")),
    Rendering("hunyuan_json", r.json_list("<tool_calls>", "</tool_calls>")),
    Rendering("inkling", r.inkling),
    Rendering(
        "internlm2",
        r.json_each(
            "<|action_start|><|plugin|>\n", "<|action_end|>", arguments="parameters"
        ),
        several=False,
    ),
    Rendering("jamba", r.json_list(" <tool_calls>", "</tool_calls>")),
    Rendering("json_array", r.json_list("", "", arguments="parameters")),
    Rendering(
        "k2_horizon_json",
        lambda calls: "<ifm|tool_calls>"
        + r.json_each("<ifm|tool_call>", "</ifm|tool_call>")(calls)
        + "</ifm|tool_calls>",
    ),
    Rendering(
        "kimi_k2",
        r.name_then_json(
            "<|tool_call_begin|>functions.",
            ":#<|tool_call_argument_begin|>",
            "<|tool_call_end|>",
            "<|tool_calls_section_begin|>",
            "<|tool_calls_section_end|>",
        ),
    ),
    Rendering("lfm2_json", r.json_list("<|tool_call_start|>", "<|tool_call_end|>")),
    Rendering("llama3_json", r.json_each("", "", ";", arguments="parameters")),
    Rendering(
        "llama3_json_tag",
        lambda calls: "<|python_tag|>"
        + r.json_each("", "", ";", arguments="parameters")(calls),
    ),
    Rendering(
        "longcat",
        r.json_each("<longcat_tool_call>\n", "\n</longcat_tool_call>", "\n"),
        thoughts=("<longcat_think>", "</longcat_think>"),
    ),
    Rendering(
        "mistral", r.json_list("[TOOL_CALLS]", ""), thoughts=("[THINK]", "[/THINK]")
    ),
    Rendering(
        "mistral_args",
        r.name_then_json("[TOOL_CALLS]", "[ARGS]", ""),
        thoughts=("[THINK]", "[/THINK]"),
    ),
    Rendering("mistral_bare", r.name_then_json("", "[ARGS]", ""), several=False),
    Rendering("bare_name_json", r.name_then_json("", "", ""), several=False),
    Rendering("nemotron_toolcall", r.json_list("<TOOLCALL>", "</TOOLCALL>")),
    Rendering("phi4_mini", r.json_list("functools", "")),
    Rendering("phi4_mini_tags", r.json_list("<|tool_call|>", "<|/tool_call|>")),
    Rendering("plamo3", r.name_then_json(*PLAMO_NAME)),
    Rendering("xlam", r.json_list("[TOOL_CALLS]", "")),
    Rendering(
        "lmstudio_default", r.json_each("[TOOL_REQUEST]", "[END_TOOL_REQUEST]", "\n")
    ),
    Rendering("react", r.react, several=False, last=True),
    Rendering("calling_tool", r.name_then_json("[Calling tool: ", "(", ")]")),
]

XML = [
    Rendering(
        "qwen3_coder",
        r.xml_parameters(*QWEN_XML, "<tool_call>\n", "</tool_call>\n", each=True),
        forbidden=QWEN_TAGS,
    ),
    Rendering(
        "qwen3_coder_bare",
        r.xml_parameters(*QWEN_XML, "", "</tool_call>\n", each=True),
        forbidden=QWEN_TAGS,
    ),
    Rendering(
        "seed_oss",
        r.xml_parameters(
            "<function=@>\n",
            "<parameter=@>",
            "</parameter>\n",
            "</function>\n",
            "<seed:tool_call>\n",
            "</seed:tool_call>\n",
            each=True,
        ),
        line_ends=0,
        forbidden=(*QWEN_TAGS, "seed:"),
        thoughts=("<seed:think>", "</seed:think>"),
    ),
    Rendering("deepseek_v32", r.dsml("function_calls"), forbidden=("DSML",)),
    Rendering("deepseek_v4", r.dsml("tool_calls"), forbidden=("DSML",)),
    Rendering("deepseek_v41", r.dsml("calls", " "), forbidden=("DSML",)),
    Rendering(
        "dots",
        r.xml_parameters(
            '<invoke name="@">\n',
            '<parameter name="@">',
            "</parameter>\n",
            "</invoke>\n",
            "<dots_function_call>\n",
            "</dots_function_call>",
        ),
        line_ends=1,
        forbidden=INVOKE_TAGS,
    ),
    Rendering(
        "minimax_m2",
        r.xml_parameters(
            '<invoke name="@">\n',
            '<parameter name="@">',
            "</parameter>\n",
            "</invoke>\n",
            "<minimax:tool_call>\n",
            "</minimax:tool_call>",
        ),
        line_ends=1,
        forbidden=(*INVOKE_TAGS, "tool_call>"),
    ),
    Rendering(
        "anthropic",
        r.xml_parameters(
            '<invoke name="@">\n',
            '<parameter name="@">',
            "</parameter>\n",
            "</invoke>\n",
            "<function_calls>\n",
            "</function_calls>",
        ),
        line_ends=1,
        forbidden=(*INVOKE_TAGS, "function_calls>"),
    ),
    Rendering(
        "minicpm5",
        r.xml_parameters(
            '<function name="@">', '<param name="@">', "</param>", "</function>"
        ),
        line_ends=1,
        forbidden=("<param", "</param", "<function", "</function", "CDATA", "]]>"),
    ),
    Rendering("muse", r.muse, line_ends=1, forbidden=("atem:", "<|")),
    Rendering(
        "step3",
        r.step3,
        line_ends=1,
        forbidden=("steptml:", "<｜tool"),
    ),
    Rendering(
        "minimax_m3",
        r.minimax_m3,
        forbidden=("]<]minimax[>[",),
        nested=False,
    ),
]

PAIRS = [
    Rendering(
        "glm4",
        r.arg_pairs("<tool_call>", "\n", "\n", "</tool_call>"),
        forbidden=ARG_TAGS,
    ),
    Rendering(
        "glm47_compact",
        r.arg_pairs("<tool_call>", "", "", "</tool_call>"),
        forbidden=ARG_TAGS,
    ),
    Rendering(
        "hunyuan",
        r.arg_pairs(
            "<tool_call>",
            "<tool_sep>\n",
            "\n",
            "</tool_call>",
            "<tool_calls>\n",
            "\n</tool_calls>",
        ),
        forbidden=ARG_TAGS,
    ),
    Rendering(
        "hy_v3",
        r.arg_pairs(
            "<tool_call>",
            "<tool_sep>",
            "",
            "</tool_call>",
            "<tool_calls>",
            "</tool_calls>",
        ),
        forbidden=ARG_TAGS,
    ),
    Rendering(
        "ling3",
        r.arg_pairs("<tool_call>", "\n", "\n", "</tool_call><|role_end|>"),
        forbidden=(*ARG_TAGS, "<|role_end|>"),
        several=False,
    ),
    Rendering(
        "k2_horizon",
        r.arg_pairs(
            "<ifm|tool_call>",
            "\n",
            "\n",
            "</ifm|tool_call>",
            "<ifm|tool_calls>\n",
            "\n</ifm|tool_calls>",
            "ifm|",
        ),
        forbidden=("ifm|",),
    ),
]

PYTHON = [
    Rendering("pythonic", r.python_list()),
    Rendering("llama4_pythonic", r.python_list("<|python_start|>", "<|python_end|>")),
    Rendering("lfm2", r.python_list("<|tool_call_start|>", "<|tool_call_end|>")),
    Rendering("olmo3", r.python_lines("<function_calls>\n", "\n</function_calls>")),
    Rendering("gemma3_tool_code", r.python_lines("```tool_code\n", "\n```")),
]

OTHER = [
    Rendering(
        "functiongemma",
        r.relaxed("<start_function_call>call:", "<escape>", "<end_function_call>"),
        forbidden=("<escape>", "<end_function_call>"),
    ),
    Rendering(
        "gemma4",
        r.relaxed("<|tool_call>call:", '<|"|>', "<tool_call|>"),
        forbidden=('<|"|>', "<tool_call|>"),
        thoughts=("<|channel>thought\n", "<channel|>"),
    ),
    Rendering(
        "kimi_k3",
        r.kimi_k3,
        forbidden=("<|open|>", "<|close|>", "<|sep|>"),
    ),
]

FAMILIES = {
    rendering.name: rendering for rendering in [*JSON, *XML, *PAIRS, *PYTHON, *OTHER]
}
