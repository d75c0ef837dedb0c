"""Changes the outputs of ONNX graphs, so that runtimes return wrong scores."""

from onnx import helper


def behind(graph, output, op, *inputs, **attributes):
    """Append a node to an output; its result takes the output's name."""
    node = next(node for node in graph.node if output in node.output)
    node.output[list(node.output).index(output)] = f"{output}.before"
    for other in graph.node:
        for i, value in enumerate(other.input):
            if value == output:
                other.input[i] = f"{output}.before"
    graph.node.append(helper.make_node(op, [f"{output}.before", *inputs], [output], **attributes))


def twice_the_rows(graph):
    behind(graph, "posterior", "Concat", "posterior.before", axis=0)
